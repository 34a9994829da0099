#pragma once
/// What the files of a tokenizer hold.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/unigram.h"

namespace moe {

/// The texts of the files beside a tokenizer's own files; empty for an absent file.
struct SideFiles {
  std::string config = {};              // tokenizer_config.json
  std::string added_tokens = {};        // added_tokens.json
  std::string special_tokens_map = {};  // special_tokens_map.json
  std::string chat_template = {};       // chat_template.jinja
};

/// The content of a tokenizer's files.
struct TokenizerFiles {
  BpeModel model;
  std::optional<UnigramModel> unigram;  // then `model` has nothing but tokens
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

}  // namespace moe
