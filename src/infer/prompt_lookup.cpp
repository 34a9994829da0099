#include "infer/prompt_lookup.h"

#include <algorithm>

namespace moe {
namespace {

constexpr int64_t kLongest = 4, kShortest = 2;  // last tokens that are looked for
constexpr int64_t kRemembered = 64;             // passes without drafts; older ones count half, a quarter ...

}  // namespace

std::vector<int32_t> look_up_draft(std::span<const int32_t> ids, int64_t most) {
  const auto count = static_cast<int64_t>(ids.size());
  for (int64_t length = std::min(kLongest, count - 1); most > 0 && length >= kShortest; --length) {
    const auto last = ids.last(static_cast<size_t>(length));
    for (int64_t begin = count - length - 1; begin >= 0; --begin) {
      const auto here = ids.subspan(static_cast<size_t>(begin));
      if (!std::equal(last.begin(), last.end(), here.begin())) continue;
      const auto next = here.subspan(static_cast<size_t>(length));
      return {next.begin(), next.begin() + std::min(most, static_cast<int64_t>(next.size()))};
    }
  }
  return {};
}

void DraftGain::add(double seconds, int64_t tokens, bool drafted) {
  Sum& sum = drafted ? drafted_ : plain_;
  sum.seconds += seconds;
  sum.tokens += static_cast<double>(tokens);
  ++sum.passes;
  if (!drafted) {
    if (pause_left_ > 0) --pause_left_;
    if (sum.passes % kRemembered == 0) sum.seconds /= 2, sum.tokens /= 2;
    return;
  }
  const double each = plain_.seconds / plain_.tokens;
  saved_seconds_ += static_cast<double>(tokens) * each - seconds;
  if (sum.passes < kWindow) return;
  if (sum.seconds > sum.tokens * each) {
    ++stops_;
    pause_left_ = pause_;
    pause_ = std::min(2 * pause_, kMostPause);
  }
  sum = {};
}

}  // namespace moe
