#pragma once
/// Learning rates of a run (docs/paper.md section 4).

#include <cstdint>

namespace moe {

enum class ScheduleKind {
  step_decay,  ///< the paper's schedule: times factor from step floor(0.8 S) + 1, and again from floor(0.9 S) + 1
  constant,
  cosine,  ///< half a cosine from the peak to final_ratio * peak
  wsd,     ///< warm-up, stable, decay: linear to final_ratio * peak over the last decay_fraction of the steps
};
const char* name(ScheduleKind kind);

struct Schedule {
  ScheduleKind kind = ScheduleKind::step_decay;
  double peak = 1e-3;
  int64_t steps = 0;  ///< S; a guess if `hours` is set
  double epochs = 0;  ///< given in the run file instead of S, until S is known (train/length.h)
  double hours = 0;
  double warmup_fraction = 0.05;
  int64_t warmup_steps = 0;  ///< the rate is peak * k / warmup_steps while k <= warmup_steps
  double decay_factor = 0.316;
  double final_ratio = 0.1;
  double decay_fraction = 0.2;

  /// The learning rate of step k = 1 .. S.
  double rate(int64_t k) const;
};

}  // namespace moe
