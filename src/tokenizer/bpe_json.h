#pragma once
/// The parts of tokenizer.json that define the vocabulary.

#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"

namespace moe {

/// The member "model": BPE with "vocab" and "merges" (strings or pairs).
BpeModel parse_bpe_model(const Json& model, Alphabet alphabet, const std::string& where);

/// The member "model" of a new tokenizer.json: byte-level BPE, or with `byte_fallback` BPE on characters, which has the
/// token `unknown` (null: none).
Json bpe_model_json(Json vocabulary, Json merges, bool ignore_merges, bool byte_fallback = false,
                    const Json& unknown = nullptr);

/// An entry of "added_tokens".
Json added_token_json(int64_t id, const std::string& content, bool special);

/// GPT-2's pair of files: an object from token to id, and one merge per line after an optional "#version" line.
BpeModel parse_gpt2_model(const Json& vocab, const std::string& vocab_name, std::string_view merges,
                          const std::string& merges_name);

/// The member "added_tokens", which may be absent. Ids are those that the `tokenizers` library gives: the vocabulary's
/// id if it has the content, else the next free one. A file with another id is refused.
std::vector<AddedToken> parse_added_tokens(const Json& root, const BpeModel& model, const std::string& where);

}  // namespace moe
