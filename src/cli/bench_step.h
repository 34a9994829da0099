#pragma once
/// `moe bench step`: a training step on random tokens.

#include <optional>

#include "cli/bench_flags.h"
#include "train/run_config.h"

namespace moe {

struct StepFlags : BenchFlags {
  int64_t rows = 4;  ///< 0: those that `moe train` would choose for run_file
  int64_t length = 1024;
  int64_t microbatches = 1;
  bool recompute = false;
  std::string rebuild = name(Rebuild::nothing);
  int64_t lora = 0;       ///< the rank of adapters, which then train alone; 0: all parameters train
  std::string lora_base;  ///< the type of the weights beside adapters; empty: that of the step
  BalanceConfig balance = {.alpha_expert = 0.001f};  ///< of a run file where there is one
  std::optional<RunConfig> run_file = {};
  int steps = 3;
  int warm_up = 1;
};

/// Prints tokens per second, the share of a large product's rate, memory, and the time of each operation.
void bench_step(StepFlags flags);

}  // namespace moe
