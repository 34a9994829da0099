#pragma once
/// Settles data.microbatch_rows = "auto" and train.recompute = "auto". This happens once, when a run begins. The values
/// are written to its run.toml and its checkpoints, and every resume keeps them, on any machine.

#include "train/run_memory.h"

namespace moe {

/// How the rows of a step are computed: so many together, with their layers run again in backward or not.
struct Microbatch {
  int64_t rows = 1;
  bool recompute = true;
};

/// The microbatch that is predicted to be fastest of those that fit, with all else that the run holds: rows that divide
/// a rank's part of a step, up to 64K tokens on a GPU and 2K on the CPU, with and without recompute. What the run file
/// gives is not chosen. Of predictions within 2% of the best the one with the least memory is taken. Where nothing
/// fits: one row, and recompute.
Microbatch choose_microbatch(const RunConfig& run, const RunFacts& facts, const Place& place);

/// The time of a step, only for comparing choices for the same run, in an arbitrary unit. It is the time of the step's
/// products (with those of recompute), divided by the fraction of its full rate that a device reaches with microbatches
/// of T tokens: T / (T + 8192) on a GPU, T / (T + 128) on the CPU.
double predicted_time(const MemoryPlan& plan, const StepConfig& step, bool gpu);

/// The fraction of its full rate that a device reaches with microbatches of `tokens` tokens.
double full_rate_share(double tokens, bool gpu);

/// Settles the run with these values, also in its `resolved` keys.
void settle(RunConfig& run, const Microbatch& microbatch);

/// Settles what is open as the run with this run.toml has it; false where that cannot be read or says nothing that
/// suits.
bool settle_as_kept(RunConfig& run, const fs::path& run_toml);

}  // namespace moe
