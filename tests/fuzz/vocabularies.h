#pragma once
/// Tokenizers that are good but for the parts that an input replaces.

#include "tests/tokenizer/support.h"

namespace moe::fuzz {

/// A vocabulary of characters with byte fallback, as SentencePiece's models of BPE become a tokenizer.json.
inline Json characters_json() {
  Json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  const auto add = [&](const std::string& token) {
    const size_t next = vocabulary.size();
    vocabulary[token] = next;
  };
  for (int byte = 0; byte < 256; ++byte) add(byte_token_name(static_cast<uint8_t>(byte)));
  for (const char* token : {"\u2581", "a", "b", "\u00e9", "ab", "\u2581a", "\u2581ab"}) add(token);
  const Json merges = {"a b", "\u2581 a", "\u2581 ab", "\u2581a b"};
  Json root = test::tokenizer_json();
  root["pre_tokenizer"] = nullptr;
  root["decoder"] = {{"type", "ByteFallback"}};
  root["model"] = {{"type", "BPE"},         {"unk_token", "<unk>"}, {"fuse_unk", true},
                   {"byte_fallback", true}, {"vocab", vocabulary},  {"merges", merges}};
  return root;
}

/// A unigram model with byte fallback for some bytes.
inline Json unigram_json() {
  Json vocabulary = Json::array();
  const auto add = [&](const std::string& token, double score) { vocabulary.push_back(Json::array({token, score})); };
  add("<unk>", 0);
  for (const char* token : {"\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "\u00e9", "he", "hello"}) {
    add(token, -1.5 - 0.37 * static_cast<double>(vocabulary.size()));
  }
  for (const uint8_t byte : {0x41, 0xC3, 0xA9}) add(byte_token_name(byte), -9);
  Json root = test::tokenizer_json();
  root["pre_tokenizer"] = nullptr;
  root["decoder"] = nullptr;
  root["model"] = {{"type", "Unigram"}, {"unk_id", 0}, {"byte_fallback", true}, {"vocab", vocabulary}};
  return root;
}

/// A vocabulary of bytes with some merges.
inline Json bytes_json() { return test::tokenizer_json({"h e", "l l", "he ll", "\u0120 he", "1 2", "\u00c3 \u00a9"}); }

}  // namespace moe::fuzz
