#pragma once
/// How a token is drawn from a row of logits.

#include <array>
#include <bit>
#include <cstdint>

#include "base/random.h"

namespace moe {

/// The options apply in the order of the fields below. Each one works on the tokens that the previous ones left.
struct SamplingOptions {
  /// For ids that occur in the sequence so far, prompt included: a positive logit is divided by the penalty, any other
  /// is multiplied (each id once, however often it occurs). 1 changes nothing.
  double repetition_penalty = 1.0;
  /// Taken from the logit of every id that occurs in the sequence so far, prompt included. 0 changes nothing.
  double presence_penalty = 0.0;
  /// The same, as often as the id occurs.
  double frequency_penalty = 0.0;
  /// Logits are divided by it. 0 gives the most likely token (the lowest id among equals), and the options below do not
  /// apply.
  double temperature = 1.0;
  /// Keeps the k most likely tokens; among equally likely ones, the lowest ids. 0 keeps all.
  int64_t top_k = 0;
  /// Keeps the smallest number of most likely tokens whose probabilities reach this sum; at least one. 1 keeps all.
  double top_p = 1.0;
  /// Keeps tokens whose probability is at least this fraction of the largest. 0 keeps all.
  double min_p = 0.0;
  /// The seed of the draws.
  uint64_t seed = 0;

  /// True if the tokens of the sequence so far change the logits.
  constexpr bool penalises() const {
    return static_cast<float>(repetition_penalty) != 1.0f || presence_penalty != 0 || frequency_penalty != 0;
  }
};

/// The options of one sequence, and the stream of its draws. The draw of the token at position p has the index p.
struct TokenDraw {
  SamplingOptions options = {};
  uint64_t stream = 0;
};

/// `sequence` selects the draws, together with the seed and the position.
inline TokenDraw token_draw(const SamplingOptions& options, uint64_t sequence) {
  return {options, hash_name("sampling") + sequence};
}

/// A TokenDraw as a row of NextToken::draws.
constexpr int kDrawWords = sizeof(TokenDraw) / sizeof(int32_t);
using DrawWords = std::array<int32_t, kDrawWords>;
static_assert(sizeof(TokenDraw) == sizeof(DrawWords), "there are no gaps");

inline DrawWords words_of(const TokenDraw& draw) { return std::bit_cast<DrawWords>(draw); }
inline TokenDraw draw_of(const DrawWords& words) { return std::bit_cast<TokenDraw>(words); }

/// A logit of a token that occurs `count` times in the sequence so far.
inline float penalised(float logit, int64_t count, const SamplingOptions& options) {
  if (count == 0) return logit;
  const auto penalty = static_cast<float>(options.repetition_penalty);
  if (penalty != 1.0f) logit = logit > 0 ? logit / penalty : logit * penalty;
  const double added = options.presence_penalty + options.frequency_penalty * static_cast<double>(count);
  return added == 0 ? logit : logit - static_cast<float>(added);
}

}  // namespace moe
