#pragma once
/// Texts that the model writes during training.

#include "data/shards.h"
#include "infer/generate.h"
#include "tokenizer/tokenizer.h"
#include "train/run_config.h"

namespace moe {

/// The ids of sample.prompts. Where `train` is a dataset of conversations, a prompt is what a user says, written by the
/// dataset's chat template. An error names the prompt that the model cannot continue.
std::vector<Prompt> sample_prompts(const Dataset& train, const Tokenizer& tokenizer, const ModelConfig& model,
                                   const SampleConfig& config);

/// A prompt and how the model continued it.
struct Sample {
  std::string prompt, text;
};

/// Continues each prompt; an answer ends where the answers that `train` teaches end. Calls `between` after each token;
/// it may throw.
std::vector<Sample> make_samples(const ModelOnDevice& runtime, const Dataset& train, const Tokenizer& tokenizer,
                                 const SampleConfig& config, uint64_t seed, const std::function<void()>& between);

/// Prints prompts and continuations to stdout, under a line that names the step. Throws an Error if stdout cannot be
/// written.
void print_samples(const std::vector<Sample>& samples, int64_t step);

}  // namespace moe
