#pragma once
/// The calls that rank 0 sends to the others (infer/leader.h), as bytes between processes of one program.

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "infer/paged_pass.h"
#include "infer/switches.h"

namespace moe {

template <class T>
concept PlainNumber = std::is_arithmetic_v<T> || std::is_enum_v<T>;

/// Appends to a string, which must outlive it. Use it on one thread at a time.
class WordWriter {
 public:
  explicit WordWriter(std::string& bytes) : bytes_(bytes) {}

  template <PlainNumber T>
  void add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <PlainNumber T>
  void add(const std::vector<T>& values) {
    add(static_cast<uint64_t>(values.size()));
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }

 private:
  std::string& bytes_;
};

/// Reads what a WordWriter wrote, in the same order. An Error if the bytes end too early. Use it on one thread at a
/// time.
class WordReader {
 public:
  explicit WordReader(std::string_view bytes) : bytes_(bytes) {}

  bool done() const { return bytes_.empty(); }
  template <PlainNumber T>
  T take() {
    T value{};
    read(&value, sizeof value);
    return value;
  }
  template <PlainNumber T>
  std::vector<T> take_all() {
    const auto count = take<uint64_t>();
    if (count > bytes_.size() / sizeof(T)) fail_short();
    std::vector<T> values(count);
    read(values.data(), count * sizeof(T));
    return values;
  }

 private:
  [[noreturn]] static void fail_short() { fail("a message of rank 0 is too short; all ranks need the same program"); }
  void read(void* to, size_t count) {
    if (count > bytes_.size()) fail_short();
    if (count > 0) std::memcpy(to, bytes_.data(), count);
    bytes_.remove_prefix(count);
  }

  std::string_view bytes_;
};

/// What the bytes of a call begin with.
enum class Call : char {
  begin,
  set_pages,
  copy_page,
  set_allowed,
  set_history,
  run,
  begin_steps,
  queue_step,
  read_step,
  set_switches,
  end
};

// What a call needs besides, written and read in the same order.

void add(WordWriter& words, const PagedSizes& sizes);
PagedSizes take_sizes(WordReader& words);
void add(WordWriter& words, const PagedPass& pass);
PagedPass take_pass(WordReader& words);
void add(WordWriter& words, const std::vector<StepRow>& rows);
std::vector<StepRow> take_rows(WordReader& words);
void add(WordWriter& words, const RoutingSwitches& switches);
RoutingSwitches take_switches(WordReader& words);

}  // namespace moe
