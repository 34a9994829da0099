#include "infer/stop_strings.h"

#include <algorithm>

#include "base/error.h"

namespace moe {

std::string StopStrings::push(std::string_view bytes) {
  MOE_CHECK(!stopped_);
  held_ += bytes;
  size_t end = std::string::npos, begin = 0;
  for (const std::string& stop : stop_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    if (at + stop.size() < end || (at + stop.size() == end && at < begin)) {
      begin = at;
      end = at + stop.size();
    }
  }
  if (end != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, {}).substr(0, begin);
  }
  size_t kept = 0;  // bytes at the end that may be the beginning of a stop string
  for (const std::string& stop : stop_) {
    size_t part = std::min(stop.size() - 1, held_.size());
    while (part > kept && !std::string_view(held_).ends_with(std::string_view(stop).substr(0, part))) --part;
    kept = std::max(kept, part);
  }
  std::string shown = held_.substr(0, held_.size() - kept);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

}  // namespace moe
