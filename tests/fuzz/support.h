#pragma once
/// What the fuzzing targets share. A target gives bytes of a stranger to a reader of the program. The reader may return
/// a result or throw moe::Error. Everything else ends the process, and is a finding.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace moe::fuzz {

/// Prints the sentence where the environment has FUZZ_SHOW_ERRORS: for a look at why an input is refused.
void show(const Error& error);

/// Runs `read`, which may throw an Error with a sentence. Returns whether it came to its end.
template <class F>
bool accepted(F&& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    MOE_CHECK(error.what()[0] != '\0');
    show(error);
    return false;
  }
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Cuts an input at the bytes 0xFF, which neither JSON nor UTF-8 has, into `count` texts. The last one has the rest,
/// with any bytes; missing ones are empty.
std::vector<std::string_view> cut(std::string_view input, size_t count);

/// The folder of this process in memory (/dev/shm), made at the first call and removed at the end.
const fs::path& folder();

/// Writes folder()/name anew, without syncing it, and returns its path.
fs::path put(const std::string& name, std::string_view content);

/// Removes folder()/name, if it is there.
void take_away(const std::string& name);

}  // namespace moe::fuzz
