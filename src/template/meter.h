#pragma once
/// The limits of one rendering. Templates come from strangers, so every step and every byte is counted, and a limit
/// ends the rendering with an error.

#include <cstdint>
#include <memory>
#include <vector>

namespace moe::jinja {

struct Limits {
  uint64_t steps = 50'000'000;       // expressions, statements, items, and every 16 bytes of text that are read or made
  uint64_t live_bytes = 256u << 20;  // bytes of the values that exist at one time, with the text written so far
  int depth = 1'500;                 // nested expressions and statements, including macros
};

struct Object;

/// The counts of one rendering. The meter of a rendering thread is `Meter::current`; without one, nothing is counted.
struct Meter {
  Limits limits;
  uint64_t steps = 0;
  uint64_t live = 0;
  int depth = 0;
  std::vector<std::weak_ptr<Object>> may_hold_themselves = {};  // namespaces, macros and loops: Object::forget()

  static thread_local Meter* current;
};

/// Counts steps. Throws an Error if there are too many.
void spend(uint64_t steps);

/// Throws an Error if `bytes` more would be too many. Call it before making a large value.
void need_room(uint64_t bytes);

/// The number of steps for reading or making this much text.
inline uint64_t text_steps(uint64_t bytes) { return 1 + bytes / 16; }

/// The bytes of a value, released when it ends. For one thread at a time.
class Charge {
 public:
  Charge() = default;
  explicit Charge(uint64_t bytes);
  ~Charge();
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  void grow(uint64_t bytes);

 private:
  Meter* meter_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace moe::jinja
