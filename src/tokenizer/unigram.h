#pragma once
/// The unigram model of SentencePiece: of all ways to cut a text into tokens, the one whose scores have the largest
/// sum.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/piece_trie.h"

namespace moe {

/// Whose sums of scores are followed. They differ in rounding, and so in which of nearly equal ways wins.
enum class ScoreSums {
  doubles,  // of the `tokenizers` library
  floats,   // of SentencePiece
};

struct UnigramModel {
  std::vector<double> scores = {};       // by id
  std::vector<bool> found_in_text = {};  // by id; the others are never taken for text
  double unknown_score = 0;              // of a character that is no token
  int32_t unknown = -1;                  // its id; -1: such a text is an error
  bool byte_fallback = false;            // unknown text becomes <0xNN> for each byte, if all of them are tokens
  ScoreSums sums = ScoreSums::doubles;
};

/// What both programs take off the lowest score of a vocabulary for the score of an unknown character.
inline constexpr double kUnknownPenalty = 10;

/// Working memory for one thread that encodes.
struct UnigramScratch {
  struct Best {
    double score;
    uint32_t begin;
    int32_t id;  // of the last token; kNone: no way ends here yet
  };
  std::vector<Best> best;  // by the byte where a way ends
};

/// Several threads may encode with it, each with its own scratch.
class Unigram {
 public:
  /// `tokens` are the texts by id, as in BpeModel; none occurs twice.
  Unigram(UnigramModel model, const std::vector<std::string>& tokens);

  /// Appends the ids of `text` (any bytes). Unknown characters that follow each other are one unknown token. Time grows
  /// with the length of the text times that of the longest token. A character without a token is an error if the model
  /// has no unknown token.
  void encode(std::string_view text, UnigramScratch& scratch, std::vector<int32_t>& ids) const;

 private:
  void find_best(std::string_view text, UnigramScratch& scratch) const;
  void append_unknown(std::string_view text, std::vector<int32_t>& ids) const;

  UnigramModel model_;
  PieceTrie trie_;
  std::array<int32_t, 256> bytes_;  // <0xNN>; -1: not a token
};

}  // namespace moe
