#include "train/run_config.h"

namespace moe {

void set_microbatch(RunConfig& run, int64_t rows, bool recompute) {
  run.data.microbatch_rows = rows;
  if (run.evaluation.rows_follow) run.evaluation.batch_rows = rows;
  run.step.sequence_length = run.data.sequence_length;
  run.step.microbatch_tokens = rows * run.data.sequence_length;
  run.step.microbatches = run.data.rows_per_step / rows / run.step.row_ranks();
  run.step.recompute = recompute;
  run.step.choose_recompute = false;
}

}  // namespace moe
