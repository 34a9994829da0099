#pragma once
/// Small tokenizers for tests.

#include <string>
#include <vector>

#include "formats/json.h"
#include "tokenizer/bpe.h"
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

/// A vocabulary of characters as SentencePiece has it, with the merges that follow from the scores.
inline Json characters_json() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[byte_token_name(static_cast<uint8_t>(byte))] = 3 + byte;
  int id = 259;
  for (const char* text : {"\u2581", "a", "b", "ab", "\u2581ab", "aa", "aaa"}) vocab[text] = id++;
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const Json back = {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}};
  const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  return {
      {"added_tokens", {added_token(0, "<unk>", true), added_token(1, "<s>", true), added_token(2, "</s>", true)}},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", "\u2581"}}, replace}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", {{"type", "Sequence"}, {"decoders", {back, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"byte_fallback", true},
        {"fuse_unk", true},
        {"vocab", vocab},
        {"merges", {"a b", "\u2581 ab", "a a", "a aa", "aa a"}}}}};
}

inline Tokenizer make_tokenizer(const Json& json, const std::string& config = "") {
  return Tokenizer(parse_tokenizer_files(json.dump(), {.config = config}, "tokenizer.json"));
}

using Ids = std::vector<int32_t>;

}  // namespace moe::test
