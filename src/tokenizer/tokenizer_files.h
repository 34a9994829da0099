#pragma once
/// Tokenizers on disk: Hugging Face's tokenizer.json, GPT-2's vocab.json and merges.txt, or SentencePiece's
/// tokenizer.model, with tokenizer_config.json, added_tokens.json and special_tokens_map.json beside them. Everything
/// that would change ids and is not supported is an error with its name.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"

namespace moe {

/// The texts of the files beside a tokenizer's own files; empty for an absent file.
struct SideFiles {
  std::string config = {};              // tokenizer_config.json
  std::string added_tokens = {};        // added_tokens.json
  std::string special_tokens_map = {};  // special_tokens_map.json
};

/// The content of a tokenizer's files.
struct TokenizerFiles {
  BpeModel model;
  std::vector<AddedToken> added;
  Normalizer normalizer;  // before added tokens of the second kind are looked for
  Normalizer marks;       // after that: blanks become marks
  PreTokenizer pre_tokenizer;
  bool decodes_marks = false;           // marks in tokens are blanks in text
  bool strips_blank = false;            // decoded text loses one blank at its start
  std::vector<int32_t> prefix, suffix;  // special ids before and after a text
  std::optional<int32_t> bos, eos, pad;
  std::vector<std::pair<std::string, std::string>> contents;  // name and bytes of each file, for saving them again
};

/// `path` is a folder, a tokenizer.json or a tokenizer.model.
TokenizerFiles load_tokenizer_files(const fs::path& path);

/// The same from the bytes of a tokenizer.model (src/tokenizer/sentencepiece.h).
TokenizerFiles parse_sentencepiece_files(std::string model, const SideFiles& side, const std::string& name);

/// The same from texts. Errors call tokenizer.json `name`.
TokenizerFiles parse_tokenizer_files(std::string tokenizer_json, const SideFiles& side, const std::string& name);

}  // namespace moe
