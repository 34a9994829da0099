#include "infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

Sampler::Sampler(const SamplingOptions& options, std::vector<bool> allowed)
    : options_(options), allowed_(std::move(allowed)) {
  validate(options_);
}

void Sampler::use(const SamplingOptions& options) {
  validate(options);
  options_ = options;
}

// Changes the scores of ids in the history, once for each id.
void Sampler::penalise(std::span<const int32_t> history) {
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  if (penalty == 1.0f && options_.presence_penalty == 0 && options_.frequency_penalty == 0) return;
  sorted_history_.assign(history.begin(), history.end());
  std::sort(sorted_history_.begin(), sorted_history_.end());
  for (auto first = sorted_history_.begin(); first != sorted_history_.end();) {
    const auto end = std::upper_bound(first, sorted_history_.end(), *first);
    float& score = scores_[static_cast<size_t>(*first)];
    if (penalty != 1.0f) score = score > 0 ? score / penalty : score * penalty;
    const double added = options_.presence_penalty + options_.frequency_penalty * static_cast<double>(end - first);
    if (added != 0) score -= static_cast<float>(added);
    first = end;
  }
}

// The allowed tokens in the order of their ids, with their logits after the penalty.
void Sampler::collect(std::span<const float> logits, std::span<const int32_t> history) {
  MOE_CHECK(logits.size() == allowed_.size());
  scores_.assign(logits.begin(), logits.end());
  penalise(history);
  candidates_.clear();
  for (size_t id = 0; id < scores_.size(); ++id) {
    if (!allowed_[id]) continue;
    if (!(scores_[id] < std::numeric_limits<float>::infinity())) {
      fail("the logit of token {} is {}, expected a finite number; the model's numbers overflow", id, scores_[id]);
    }
    candidates_.push_back({static_cast<int32_t>(id), scores_[id]});
  }
}

// Sums run in the order of the ids, so that neither the partition nor the heap changes their rounding.
bool Sampler::by_id(const Candidate& a, const Candidate& b) { return a.id < b.id; }

void Sampler::keep_best(size_t count) {
  if (count >= candidates_.size()) return;
  const auto better = [](const Candidate& a, const Candidate& b) { return b < a; };
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(count) - 1, candidates_.end(),
                   better);
  candidates_.resize(count);
  std::sort(candidates_.begin(), candidates_.end(), by_id);
}

// A heap finds the best tokens one after the other. Usually a few tokens of a large vocabulary have most of the
// probability.
void Sampler::keep_mass() {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.score;
  std::make_heap(candidates_.begin(), candidates_.end());
  auto end = candidates_.end();
  double mass = 0;
  while (end != candidates_.begin()) {
    std::pop_heap(candidates_.begin(), end);
    mass += (--end)->score;
    if (mass >= options_.top_p * total) break;
  }
  candidates_.erase(candidates_.begin(), end);
  std::sort(candidates_.begin(), candidates_.end(), by_id);
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history, uint64_t sequence,
                        uint64_t position) {
  collect(logits, history);
  const auto best = std::max_element(candidates_.begin(), candidates_.end());
  if (best == candidates_.end() || !(best->score > -std::numeric_limits<double>::infinity())) {
    fail("no token can follow: every logit is -infinity or belongs to an id without a token");
  }
  if (options_.temperature == 0) return best->id;
  const double largest = best->score;
  if (options_.top_k > 0) keep_best(static_cast<size_t>(options_.top_k));
  for (Candidate& candidate : candidates_) {
    candidate.score = std::exp((candidate.score - largest) / options_.temperature);
  }
  if (options_.top_p < 1) keep_mass();
  if (options_.min_p > 0) std::erase_if(candidates_, [&](const Candidate& c) { return c.score < options_.min_p; });
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.score;
  double left = Random(options_.seed, hash_name("sampling") + sequence).uniform(position) * total;
  int32_t chosen = -1;
  for (const Candidate& candidate : candidates_) {
    if (candidate.score <= 0) continue;
    chosen = candidate.id;  // the last token with any weight, if rounding leaves a rest
    if (left < candidate.score) break;
    left -= candidate.score;
  }
  return chosen;
}

}  // namespace moe
