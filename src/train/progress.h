#pragma once
/// The progress line of a run, shortened to the width of the terminal.

#include <cstddef>
#include <string>

#include "train/training_log.h"

namespace moe {

/// The content of the line for one step.
struct Progress {
  int64_t step = 0, steps = 0;
  double loss = 0;  ///< smoothed
  double gradient_norm = 0;
  double learning_rate = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
  double worst_load = 0;  ///< 0: no experts
  double dropped = 0;     ///< fraction of the choices
};

/// "step 120/1000 | loss 3.210 | norm 0.85 | lr 3.0e-03 | 5.3k tokens/s | 2m 10s left | load max/mean 1.80". With less
/// width, step, loss, norm, tokens per second and the time left remain, in shorter words, and the others are left out.
std::string progress_text(const Progress& progress, size_t width);

/// "2h 03m", "2m 10s" or "9s".
std::string duration_text(double seconds);

/// Shows the line of each step on a terminal. Otherwise logs a line every ten seconds and at the last step. Use it
/// on one thread at a time.
class ProgressLine {
 public:
  ProgressLine(int64_t first_step, int64_t steps);
  void show(const StepLine& line, double worst_load);

  /// Seconds per step so far, including evaluations and checkpoints.
  double seconds_per_step() const;

 private:
  int64_t first_step_, steps_;
  int64_t shown_ = 0;  // steps
  double started_, last_line_, latest_;
  double smoothed_loss_ = 0;
};

}  // namespace moe
