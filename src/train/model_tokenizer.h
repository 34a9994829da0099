#pragma once
/// Whether a dataset's ids are those of a model, and which are new to it.

#include <string>

#include "data/shards.h"
#include "train/begin_from.h"
#include "train/run_config.h"

namespace moe {

/// The tokenizer that made a dataset, beside that of a model.
enum class TokenizerMatch {
  unknown,  ///< one of them is not known
  same,
  grown,  ///< the model's with new tokens behind its last id
  other
};

/// `model` is a model folder or a GGUF file. Folders are compared by their files, as equal files give equal ids. A GGUF
/// file has its tokenizer in a form of its own, so its tokens and merges are compared, and the ids of a text of all
/// tokens.
TokenizerMatch match_tokenizer(const Dataset& dataset, const std::string& model);

/// The ids of a run's data that model.from does not know yet; none where a run is resumed.
NewTokens new_tokens(const RunConfig& run, const Dataset& train);

}  // namespace moe
