#pragma once
/// Small tokenizers for tests.

#include <string>
#include <vector>

#include "formats/json.h"
#include "tokenizer/byte_letters.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_files.h"

namespace moe::test {

/// A tokenizer.json whose vocabulary is the 256 bytes (ids 0 to 255) and one token per merge ("left right", byte
/// letters).
inline Json tokenizer_json(const std::vector<std::string>& merges = {}) {
  Json vocab = Json::object();
  for (size_t byte = 0; byte < 256; ++byte) vocab[byte_letters()[byte]] = byte;
  for (const std::string& merge : merges) {
    std::string token = merge;
    token.erase(token.find(' '), 1);
    const size_t next = vocab.size();
    vocab[token] = next;
  }
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"added_tokens", Json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline Json added_token(int id, const std::string& content, bool special) {
  return {{"id", id}, {"content", content}, {"special", special}, {"normalized", false}};
}

inline Tokenizer make_tokenizer(const Json& json, const std::string& config = "") {
  return Tokenizer(parse_tokenizer_files(json.dump(), {.config = config}, "tokenizer.json"));
}

using Ids = std::vector<int32_t>;

}  // namespace moe::test
