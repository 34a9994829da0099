#pragma once
/// What the engine takes and gives: requests and events.

#include <optional>

#include "infer/generation.h"

namespace moe {

/// A text to continue, or to score, or both.
struct Request {
  Prompt prompt;
  /// The limits, end ids, stop strings and sampling of this request; `progress` is not called.
  GenerationOptions options = {};
  /// Gives each new token its log-probability under the model's own distribution (temperature 1, no penalty, all ids),
  /// and those of so many most likely tokens.
  std::optional<int64_t> logprobs = {};
  /// Gives the log-probabilities of the prompt's ids from this one on (at least 1), each after the ids before it.
  std::optional<int64_t> score_from = {};
  /// Only scores. options.max_new_tokens does not count.
  bool only_score = false;
  /// Gives the routed experts that each new token was chosen with.
  bool experts = false;
  /// Gives the routed experts of the prompt's tokens.
  bool prompt_experts = false;
};

struct TokenProbability {
  int32_t id;
  double logprob;
};

/// News of one request, after one pass.
struct Event {
  int64_t request = 0;
  /// The next token; none if the request only scores, if its sampling failed, or if its prompt is still read.
  std::optional<int32_t> id = {};
  /// Whole characters that can be shown now.
  std::string text = {};
  /// Of Request::logprobs: the token's, and those of the most likely ones (the lowest ids first among equals).
  double logprob = 0;
  std::vector<TokenProbability> most_likely = {};
  /// Of Request::experts, [MoE layers, choices], -1: none: where the model sent the last token before this one, whose
  /// logits this one was chosen from.
  std::vector<int32_t> experts = {};
  /// Of Request::prompt_experts, [tokens, MoE layers, choices], -1: none: of the prompt's tokens that this pass
  /// computed. Each piece of the prompt has an event then. Tokens whose pages were found have none.
  std::vector<int32_t> prompt_experts = {};
  /// Of Request::score_from: all of them, in the first event.
  std::vector<double> scores = {};
  bool ended = false;
  StopReason reason = StopReason::max_new_tokens;  ///< when it has ended
  /// Why no token could be chosen from the logits; then the request has ended. Empty: nothing failed.
  std::string error = {};
};

}  // namespace moe
