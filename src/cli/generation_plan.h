#pragma once
/// How much memory generation needs, before anything is loaded.

#include "infer/engine.h"
#include "infer/weight_types.h"
#include "ops/device.h"

namespace moe {

/// Prompts are read in larger pieces on a GPU, which has more to do at once.
constexpr int64_t kGpuTokensPerPass = 4096;

struct EnginePasses {
  int64_t most_tokens = 512;
  bool on_device = false;  ///< Device::records()
};

/// Bytes of an engine of one sequence that caches `tokens` tokens.
int64_t engine_bytes_for(const HeldModel& held, const PassTypes& types, const EnginePasses& passes, int64_t tokens);

/// Prints what the weights, the cache and a pass of one sequence need, and the longest context that fits into `free`
/// bytes (-1: not known). An Error if not even one token fits. Of several ranks this is what the one with the part
/// `held` needs; a table has what each holds and sends. `whole`: of the whole model.
void print_generation_plan(const HeldModel& held, const WeightsSize& weights, const PassTypes& types,
                           const EnginePasses& passes, int64_t free, const WeightSizes& whole);

/// With a --memory-limit: an Error if the weights, or they and `beside` bytes, need more than `free` bytes.
void check_memory_limit(int64_t limit, const WeightsSize& weights, int64_t beside, int64_t free);

}  // namespace moe
