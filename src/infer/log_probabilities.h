#pragma once

#include <span>
#include <vector>

#include "infer/request.h"

namespace moe {

/// The logarithm of the softmax of a row of logits. Any number of threads may read it.
class LogProbabilities {
 public:
  /// `logits` must outlive the object.
  explicit LogProbabilities(std::span<const float> logits);

  double of(int32_t id) const;
  /// The most likely ids, best first; among equals the lowest ids first.
  std::vector<TokenProbability> most_likely(int64_t count) const;

 private:
  std::span<const float> logits_;
  double log_sum_;
};

}  // namespace moe
