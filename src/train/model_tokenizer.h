#pragma once
/// Whether a dataset's ids are those of a model.

#include <string>

#include "data/shards.h"

namespace moe {

/// The tokenizer that made a dataset, beside that of a model.
enum class TokenizerMatch {
  unknown,  ///< one of them is not known
  same,
  grown,  ///< the model's with new tokens behind its last id
  other
};

/// `model` is a model folder or a GGUF file. Folders are compared by their files, as equal files give equal ids. A GGUF
/// file has its tokenizer in a form of its own, so it is compared token by token.
TokenizerMatch match_tokenizer(const Dataset& dataset, const std::string& model);

}  // namespace moe
