#pragma once
/// For tests of the engine: a tiny model, and each request alone, by other code than the engine's.

#include "infer/cached_model.h"
#include "infer/engine.h"
#include "infer/log_probabilities.h"
#include "infer/scorer.h"
#include "infer/sequence.h"
#include "tests/infer/support.h"

namespace moe::test {

inline ModelConfig engine_config() {
  ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 24;
  config.intermediate_size = 20;
  config.moe_intermediate_size = 7;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 12;
  config.n_shared_experts = 1;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 2;
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 400;
  return config;
}

/// What a request gives in the end.
struct Answer {
  std::vector<int32_t> ids;
  std::vector<double> logprobs, scores;
  std::vector<int32_t> experts;         // of all new tokens
  std::vector<int32_t> prompt_experts;  // of the prompt's tokens that were computed
  std::string text, error;
  StopReason reason = StopReason::max_new_tokens;
  bool ended = false;

  void add(const Event& event) {
    prompt_experts.insert(prompt_experts.end(), event.prompt_experts.begin(), event.prompt_experts.end());
    const bool reads = !event.id && !event.ended;  // a piece of the prompt alone
    if (reads) return;
    if (event.id) ids.push_back(*event.id);
    text += event.text;
    logprobs.push_back(event.logprob);
    scores.insert(scores.end(), event.scores.begin(), event.scores.end());
    experts.insert(experts.end(), event.experts.begin(), event.experts.end());
    error = event.error;
    reason = event.reason;
    ended = event.ended;
  }
};

/// A request by itself: its tokens go through a CachedModel one sequence at a time, its scores and experts come from
/// one pass of a Scorer over the whole text.
inline Answer answer_alone(const ModelOnDevice& runtime, const Tokenizer* tokenizer, const Request& request) {
  const ModelConfig& config = runtime.model.config();
  Answer answer;
  const std::vector<int32_t>& prompt = request.prompt.ids;
  if (!request.only_score) {
    std::vector<bool> allowed(static_cast<size_t>(config.vocab_size), true);
    if (tokenizer != nullptr) allowed = ids_with_token(*tokenizer, config.vocab_size);
    Sampler sampler(request.options.sampling, allowed);
    Sequence sequence(tokenizer, config, request.prompt, request.options);
    CachedModel model(runtime, 1, config.max_position_embeddings, 64);
    std::vector<float> logits = model.append(0, prompt);
    while (true) {
      answer.text += sequence.extend(sampler, logits);
      answer.ids.push_back(sequence.ids().back());
      answer.logprobs.push_back(request.logprobs ? LogProbabilities(logits).of(answer.ids.back()) : 0);
      if (sequence.ended()) break;
      logits = model.append(0, std::span(answer.ids).last(1));
    }
    answer.reason = sequence.reason();
  } else {
    answer.logprobs = {0};
  }
  answer.ended = true;
  std::vector<int32_t> whole = prompt;
  whole.insert(whole.end(), answer.ids.begin(), answer.ids.end());
  if (!request.score_from && !request.experts && !request.prompt_experts) return answer;
  Scorer scorer(runtime, static_cast<int64_t>(whole.size()), 0, ChosenIds::kept);
  const std::vector<float> losses = scorer.losses(single_document(whole));
  if (request.score_from) {
    for (size_t i = static_cast<size_t>(*request.score_from); i < prompt.size(); ++i) {
      answer.scores.push_back(-static_cast<double>(losses[i - 1]));
    }
  }
  const std::vector<int32_t> chosen = scorer.chosen_ids();
  const auto layers = static_cast<size_t>(config.moe_layers());
  const size_t choices = chosen.size() / (layers * whole.size());
  const auto add = [&](std::vector<int32_t>& experts, size_t token) {
    for (size_t layer = 0; layer < layers; ++layer) {
      const auto first = chosen.begin() + static_cast<int64_t>((layer * whole.size() + token) * choices);
      experts.insert(experts.end(), first, first + static_cast<int64_t>(choices));
    }
  };
  for (size_t i = prompt.size(); request.experts && i < whole.size(); ++i) add(answer.experts, i - 1);
  const size_t read = prompt.size() - (request.only_score ? 1 : 0);
  for (size_t i = 0; request.prompt_experts && i < read; ++i) add(answer.prompt_experts, i);
  return answer;
}

}  // namespace moe::test
