#include "infer/sampler.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/random.h"

namespace moe {

void validate(const SamplingOptions& options) {
  // This form of the condition also refuses NaN.
  if (!(options.repetition_penalty >= 1 / kMostPenalty && options.repetition_penalty <= kMostPenalty)) {
    fail_usage("--repetition-penalty {}: expected a number from {} to {} (1 changes nothing)",
               options.repetition_penalty, 1 / kMostPenalty, kMostPenalty);
  }
  for (const auto& [name, penalty] :
       {std::pair{"presence", options.presence_penalty}, std::pair{"frequency", options.frequency_penalty}}) {
    if (penalty >= -kMostAddedPenalty && penalty <= kMostAddedPenalty) continue;
    fail_usage("--{}-penalty {}: expected a number from {} to {} (0 changes nothing)", name, penalty,
               -kMostAddedPenalty, kMostAddedPenalty);
  }
  if (!(options.temperature >= 0 && options.temperature <= kMostTemperature)) {
    fail_usage("--temperature {}: expected a number from 0 (always the most likely token) to {}", options.temperature,
               kMostTemperature);
  }
  if (options.top_k < 0) fail_usage("--top-k {}: expected 0 (all tokens) or more", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    fail_usage("--top-p {}: expected a number above 0 and at most 1 (1 keeps all tokens)", options.top_p);
  }
  if (!(options.min_p >= 0 && options.min_p <= 1)) {
    fail_usage("--min-p {}: expected a number from 0 (keeps all tokens) to 1", options.min_p);
  }
}

std::vector<bool> ids_with_token(const Tokenizer& tokenizer, int64_t vocab_size) {
  std::vector<bool> allowed(static_cast<size_t>(vocab_size), false);
  const int64_t ids = std::min<int64_t>(vocab_size, tokenizer.id_count());
  for (int64_t id = 0; id < ids; ++id) allowed[static_cast<size_t>(id)] = tokenizer.has_token(static_cast<int32_t>(id));
  return allowed;
}

Sampler::Sampler(const SamplingOptions& options, const std::vector<bool>& allowed)
    : options_(options), allowed_(allowed.begin(), allowed.end()) {
  validate(options_);
}

void Sampler::use(const SamplingOptions& options) {
  validate(options);
  options_ = options;
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history, uint64_t sequence,
                        uint64_t position) {
  MOE_CHECK(logits.size() == allowed_.size());
  if (options_.penalises()) {
    scores_.assign(logits.begin(), logits.end());
    sorted_history_.assign(history.begin(), history.end());
    std::sort(sorted_history_.begin(), sorted_history_.end());
    for (auto first = sorted_history_.begin(); first != sorted_history_.end();) {
      const auto end = std::upper_bound(first, sorted_history_.end(), *first);
      float& score = scores_[static_cast<size_t>(*first)];
      score = penalised(score, end - first, options_);
      first = end;
    }
    logits = scores_;
  }
  const double draw = Random(options_.seed, token_draw(options_, sequence).stream).uniform(position);
  const TokenChoice choice = chooser_.choose(logits, allowed_.data(), options_, draw);
  if (choice.refused >= 0) {
    fail("the logit of token {} is {}, expected a finite number; the model's numbers overflow", choice.refused,
         logits[static_cast<size_t>(choice.refused)]);
  }
  if (choice.id < 0) fail("no token can follow: every logit is -infinity or belongs to an id without a token");
  return choice.id;
}

}  // namespace moe
