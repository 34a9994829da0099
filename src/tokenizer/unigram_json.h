#pragma once
/// The member "model" of a tokenizer.json whose type is Unigram.

#include <string>
#include <vector>

#include "formats/json.h"
#include "tokenizer/unigram.h"

namespace moe {

/// True if the member "model" is a unigram model: it says so, or it has no type and its vocabulary is a list.
bool is_unigram_json(const Json& model, const std::string& where);

/// Appends the texts of the vocabulary to `tokens`, by id.
UnigramModel parse_unigram_model(const Json& model, std::vector<std::string>& tokens, const std::string& where);

/// `score` as the `tokenizers` library reads it from its shortest decimal: the digits as a double, divided or
/// multiplied by a power of ten. In one of seven scores the last bit differs, which decides between ways of nearly
/// equal sums.
double score_in_library(double score);

}  // namespace moe
