#pragma once
/// Texts that the model writes while it is trained.

#include "infer/generate.h"
#include "tokenizer/tokenizer.h"
#include "train/run_config.h"

namespace moe {

/// The ids of sample.prompts; an error names the prompt that the model cannot go on from.
std::vector<Prompt> sample_prompts(const Tokenizer& tokenizer, const ModelConfig& model, const SampleConfig& config);

/// Continues each prompt and prints prompt and continuation to stdout, under a line that names the step. An error where
/// stdout cannot be written.
void write_samples(const Runtime& runtime, const Tokenizer& tokenizer, const SampleConfig& config, int64_t step,
                   uint64_t seed);

}  // namespace moe
