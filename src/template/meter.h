#pragma once
/// What one rendering may use. A template comes from strangers, so every step and every byte that it makes is counted
/// and a limit ends the rendering with an error.

#include <cstdint>
#include <memory>
#include <vector>

namespace moe::jinja {

struct Limits {
  uint64_t steps = 50'000'000;       // expressions, statements, items and every 16 bytes of text looked at or made
  uint64_t live_bytes = 256u << 20;  // values that live at one time, the text written so far included
  int depth = 1'500;                 // expressions and statements inside one another, macros included
};

struct Object;

/// One rendering's counts. The meter of the thread that renders is `Meter::current`; without one nothing is counted.
struct Meter {
  Limits limits;
  uint64_t steps = 0;
  uint64_t live = 0;
  int depth = 0;
  std::vector<std::weak_ptr<Object>> may_hold_themselves = {};  // namespaces, macros and loops: Object::forget()

  static thread_local Meter* current;
};

/// Counts steps; throws Error where there were too many.
void spend(uint64_t steps);

/// Throws Error where `bytes` more would be too many. For callers that are about to make a large value.
void need_room(uint64_t bytes);

/// Steps of looking through or making so much text.
inline uint64_t text_steps(uint64_t bytes) { return 1 + bytes / 16; }

/// Bytes that a value holds, given back at its end.
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
