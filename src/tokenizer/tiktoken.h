#pragma once
/// Vocabularies in tiktoken's form: each line has a token's bytes in base64 and its rank, which is also its id. Two
/// neighbours merge if together they are a token, the lowest rank first. The file has neither the expression that cuts
/// text into words nor special tokens; programs have these in their code.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"

namespace moe {

struct TiktokenSpecial {
  std::string content;
  int64_t id = 0;
};

/// The tokenizer.json of a vocabulary. `ranks` is the content of the file, which errors call `name`. `pre_tokenizer`
/// cuts text into words of bytes as letters. Special tokens have ids that the vocabulary leaves free.
std::string tiktoken_tokenizer_json(std::string_view ranks, const std::string& name, const Json& pre_tokenizer,
                                    const std::vector<TiktokenSpecial>& special);

}  // namespace moe
