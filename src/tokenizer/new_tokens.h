#pragma once
/// A tokenizer with further special tokens, such as those of a chat template.

#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace moe {

struct GrownTokenizer {
  Tokenizer tokenizer;
  std::string json;  ///< its tokenizer.json
};

/// The tokenizer at `path` with `tokens` as special tokens. They get the ids behind its last one, in their order; the
/// ids of all other tokens stay. An error for a token that it has already, for one that is empty or given twice, and
/// for a tokenizer without tokenizer.json.
GrownTokenizer with_new_tokens(const fs::path& path, const std::vector<std::string>& tokens);

}  // namespace moe
