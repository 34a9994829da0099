#include "infer/log_probabilities.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moe {

LogProbabilities::LogProbabilities(std::span<const float> logits) : logits_(logits) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  log_sum_ = largest + std::log(sum);
}

double LogProbabilities::of(int32_t id) const {
  return static_cast<double>(logits_[static_cast<size_t>(id)]) - log_sum_;
}

std::vector<TokenProbability> LogProbabilities::most_likely(int64_t count) const {
  std::vector<int32_t> ids(logits_.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto kept = std::min<int64_t>(count, static_cast<int64_t>(ids.size()));
  std::partial_sort(ids.begin(), ids.begin() + kept, ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  });
  std::vector<TokenProbability> best;
  for (int64_t i = 0; i < kept; ++i) best.push_back({ids[static_cast<size_t>(i)], of(ids[static_cast<size_t>(i)])});
  return best;
}

}  // namespace moe
