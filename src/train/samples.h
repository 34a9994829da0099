#pragma once
/// Texts that the model writes while it is trained.

#include "infer/forward.h"
#include "tokenizer/tokenizer.h"
#include "train/run_config.h"

namespace moe {

/// Continues each prompt and prints prompt and continuation to stdout, under a line that names the step.
void write_samples(const Runtime& runtime, const Tokenizer& tokenizer, const SampleConfig& config, int64_t step,
                   uint64_t seed);

}  // namespace moe
