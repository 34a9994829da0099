#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moe {
namespace {

// floor(tenths / 10 * steps), without the binary rounding of 0.8 or 0.9.
int64_t tenths_of(int64_t steps, int64_t tenths) { return steps * tenths / 10; }

}  // namespace

const char* name(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::step_decay:
      return "step_decay";
    case ScheduleKind::constant:
      return "constant";
    case ScheduleKind::cosine:
      return "cosine";
    case ScheduleKind::wsd:
      return "wsd";
  }
  return "?";
}

double Schedule::rate(int64_t k) const {
  if (k <= warmup_steps) return peak * static_cast<double>(k) / static_cast<double>(warmup_steps);
  switch (kind) {
    case ScheduleKind::constant:
      return peak;
    case ScheduleKind::step_decay: {
      double rate = peak;
      if (k > tenths_of(steps, 8)) rate *= decay_factor;
      if (k > tenths_of(steps, 9)) rate *= decay_factor;
      return rate;
    }
    case ScheduleKind::cosine: {
      const double done =
          static_cast<double>(k - warmup_steps) / static_cast<double>(std::max<int64_t>(1, steps - warmup_steps));
      const double half_cosine = 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, done)));
      return peak * (final_ratio + (1 - final_ratio) * half_cosine);
    }
    case ScheduleKind::wsd: {
      const double decay_steps = std::max(1.0, std::round(decay_fraction * static_cast<double>(steps)));
      const double left = std::max(0.0, static_cast<double>(steps - k)) / decay_steps;
      return peak * (final_ratio + (1 - final_ratio) * std::min(1.0, left));
    }
  }
  return peak;
}

}  // namespace moe
