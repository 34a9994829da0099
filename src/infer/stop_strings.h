#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moe {

/// Passes on text as soon as it is certain to be part of the result. Text that may begin a stop string is held back.
/// Use it on one thread at a time.
class StopStrings {
 public:
  /// None may be empty.
  explicit StopStrings(std::vector<std::string> stop) : stop_(std::move(stop)) {}

  /// The bytes that can be shown after `bytes`. The result does not depend on how the text is divided into calls. The
  /// first complete stop string ends the text; if several end at the same byte, the longest one counts.
  std::string push(std::string_view bytes);
  /// True after a stop string was complete. Then nothing may be pushed.
  bool stopped() const { return stopped_; }
  /// The text that was held back, when no more text will come. Empty after a stop.
  std::string flush();

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace moe
