#pragma once
/// A prompt's pass and the tokens after it, one by one: `moe bench generate`.

#include "cli/bench_flags.h"

namespace moe {

/// The model has random weights and reads random tokens.
struct GenerateBenchFlags : BenchFlags {
  int64_t prompt = 256;
  int64_t tokens = 64;
  int repeats = 3;
};

/// Prints tokens per second of both, beside what the products of the prompt and the reading of a token's weights and
/// cache would allow at this machine's rates.
void bench_generate(GenerateBenchFlags flags);

}  // namespace moe
