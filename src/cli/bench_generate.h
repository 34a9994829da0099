#pragma once
/// `moe bench generate`: the pass of a prompt, and then token by token; or steps of batches at given contexts.

#include "cli/bench_flags.h"
#include "ops/sampling.h"

namespace moe {

/// The model has random weights and reads random tokens.
struct GenerateBenchFlags : BenchFlags {
  int64_t prompt = 256;
  int64_t tokens = 64;
  int repeats = 3;
  std::string quant;                  ///< the type of weights in blocks; empty: none
  std::string cache_type;             ///< of keys and values; empty: default_cache_type()
  std::vector<int64_t> batches = {};  ///< with contexts, these alone are measured
  std::vector<int64_t> contexts = {};
  SamplingOptions sampling = {.temperature = 0};  ///< with them
};

/// Prints tokens per second of both parts. Beside them it prints the limits at this machine's rates: of the prompt's
/// products, and of reading a token's weights and cache.
void bench_generate(GenerateBenchFlags flags);

}  // namespace moe
