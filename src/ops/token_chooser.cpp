#include "ops/token_chooser.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moe {

// The allowed tokens in the order of their ids. Returns the first one that is refused, or -1.
int64_t TokenChooser::collect(std::span<const float> logits, const int32_t* allowed) {
  candidates_.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (allowed != nullptr && allowed[id] == 0) continue;
    if (!(logits[id] < std::numeric_limits<float>::infinity())) return static_cast<int64_t>(id);
    candidates_.push_back({static_cast<int32_t>(id), logits[id]});
  }
  return -1;
}

// Sums run in the order of the ids, so that neither the partition nor the heap changes their rounding.
bool TokenChooser::by_id(const Candidate& a, const Candidate& b) { return a.id < b.id; }

void TokenChooser::keep_best(size_t count) {
  if (count >= candidates_.size()) return;
  const auto better = [](const Candidate& a, const Candidate& b) { return b < a; };
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(count) - 1, candidates_.end(),
                   better);
  candidates_.resize(count);
  std::sort(candidates_.begin(), candidates_.end(), by_id);
}

// A heap finds the best tokens one after the other. Usually a few tokens of a large vocabulary have most of the
// probability.
void TokenChooser::keep_mass(double share) {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.score;
  std::make_heap(candidates_.begin(), candidates_.end());
  auto end = candidates_.end();
  double mass = 0;
  while (end != candidates_.begin()) {
    std::pop_heap(candidates_.begin(), end);
    mass += (--end)->score;
    if (mass >= share * total) break;
  }
  candidates_.erase(candidates_.begin(), end);
  std::sort(candidates_.begin(), candidates_.end(), by_id);
}

TokenChoice TokenChooser::choose(std::span<const float> logits, const int32_t* allowed, const SamplingOptions& options,
                                 double draw) {
  const int64_t refused = collect(logits, allowed);
  if (refused >= 0) return {.refused = refused};
  const auto best = std::max_element(candidates_.begin(), candidates_.end());
  if (best == candidates_.end() || !(best->score > -std::numeric_limits<double>::infinity())) return {};
  if (options.temperature == 0) return {.id = best->id};
  const double largest = best->score;
  if (options.top_k > 0) keep_best(static_cast<size_t>(options.top_k));
  for (Candidate& candidate : candidates_) {
    candidate.score = std::exp((candidate.score - largest) / options.temperature);
  }
  if (options.top_p < 1) keep_mass(options.top_p);
  if (options.min_p > 0) std::erase_if(candidates_, [&](const Candidate& c) { return c.score < options.min_p; });
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.score;
  double left = draw * total;
  TokenChoice chosen;
  for (const Candidate& candidate : candidates_) {
    if (candidate.score <= 0) continue;
    chosen.id = candidate.id;  // the last token with any weight, if rounding leaves a rest
    if (left < candidate.score) break;
    left -= candidate.score;
  }
  return chosen;
}

}  // namespace moe
