#pragma once
/// What would end a run in the middle and can be known before its first step.

#include "data/shards.h"
#include "tokenizer/tokenizer.h"
#include "train/run_config.h"

namespace moe {

/// What a run reads; all must outlive the trainer.
struct TrainingData {
  const Dataset& train;
  const Dataset* valid;        ///< null: no evaluation
  const Tokenizer& tokenizer;  ///< of the train dataset
};

/// Throws Error where the data, the tokenizer, the model and the samples' prompts do not belong together, where there
/// is nothing to learn from or to evaluate, and where a prompt is too long.
void check_before_start(const RunConfig& run, const TrainingData& data);

}  // namespace moe
