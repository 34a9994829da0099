#pragma once
/// The weights of a run that begins with a model's.

#include "checkpoint/weight_source.h"
#include "train/step.h"

namespace moe {

/// Ids [first, end) that the model's tokenizer does not have.
struct NewTokens {
  int64_t first = 0, end = 0;
};

/// Fills the parameters and masters of `step`, after every check of the files. Weights of any type are read as f32,
/// which holds them exactly. The rows of new tokens in embedding and head become the mean of the rows before them; the
/// source may lack them. Does not change the optimiser state.
void begin_from(const WeightSource& source, const NewTokens& tokens, const TrainingStep& step, Device& device);

}  // namespace moe
