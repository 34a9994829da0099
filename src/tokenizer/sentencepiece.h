#pragma once
/// SentencePiece's tokenizer.model: a message in the format of protocol buffers.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe.h"

namespace moe {

struct SentencePieceModel {
  enum class Kind { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

  struct Piece {
    std::string text;
    float score = 0;
    Kind kind = Kind::normal;
  };

  std::vector<Piece> pieces;  // by id
  int64_t model_type = 1;     // 1: unigram, 2: BPE, 3: words, 4: characters
  bool byte_fallback = false;
  bool blank_at_end = false;  // treat_whitespace_as_suffix
  int64_t unknown = 0, bos = 1, eos = 2, pad = -1;
  std::string normalization;  // its name
  std::string character_map;  // src/tokenizer/character_map.h; empty: none
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

/// Every two normal pieces that together spell a third may merge, the best score first (BpeModel::rank_by_result).
std::vector<Merge> sentencepiece_merges(const std::vector<SentencePieceModel::Piece>& pieces);

/// Throws Error, which calls the file `name`, where the bytes are no such message.
SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& name);

}  // namespace moe
