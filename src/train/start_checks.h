#pragma once
/// Problems that would end a run in the middle, and that can be found before its first step.

#include "data/shards.h"
#include "tokenizer/tokenizer.h"
#include "train/run_config.h"

namespace moe {

/// The data that a run reads. All of it must outlive the trainer.
struct TrainingData {
  const Dataset& train;
  const Dataset* valid;        ///< null: no evaluation
  const Tokenizer& tokenizer;  ///< of the train dataset
};

/// The documents of data.valid that evaluations use. `valid` must outlive them.
EveryNth evaluated_documents(const RunConfig& run, const Dataset& valid);

/// Throws an Error if the data, the tokenizer, the model and the samples' prompts do not fit together, if there is
/// nothing to learn from or to evaluate, and if a prompt is too long.
void check_before_start(const RunConfig& run, const TrainingData& data);

}  // namespace moe
