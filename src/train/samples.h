#pragma once
/// Texts that the model writes during training.

#include "infer/generate.h"
#include "tokenizer/tokenizer.h"
#include "train/run_config.h"

namespace moe {

/// The ids of sample.prompts. An error names the prompt that the model cannot continue.
std::vector<Prompt> sample_prompts(const Tokenizer& tokenizer, const ModelConfig& model, const SampleConfig& config);

/// A prompt and how the model continued it.
struct Sample {
  std::string prompt, text;
};

/// Continues each prompt, and prints prompt and continuation to stdout, under a line that names the step. Throws an
/// Error if stdout cannot be written. Calls `between` after each token; it may throw.
std::vector<Sample> write_samples(const ModelOnDevice& runtime, const Tokenizer& tokenizer, const SampleConfig& config,
                                  int64_t step, uint64_t seed, const std::function<void()>& between);

}  // namespace moe
