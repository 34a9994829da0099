#pragma once
/// Inputs that the cases of routing operations share.

#include <vector>

#include "tests/conformance/cases.h"
#include "tests/oracle/naive.h"

namespace moe::conformance {

struct Sizes {
  int64_t tokens, experts, top_k;
};
inline const std::vector<Sizes> kSizes = {{0, 4, 2},  {1, 1, 1},   {5, 6, 1},    {7, 6, 6},   {33, 8, 2},
                                          {9, 64, 6}, {40, 65, 8}, {130, 16, 3}, {300, 64, 6}};

/// Groups of tokens in order, each followed by padding (-1) if requested.
inline View groups(Store& s, int64_t tokens, int64_t count, bool padding) {
  std::vector<int64_t> result;
  for (int64_t t = 0; t < tokens; ++t) {
    const bool is_padding = padding && s.draw() % 4 == 0;
    result.push_back(is_padding ? -1 : t * count / tokens);
  }
  return s.indices({tokens}, result);
}

/// Softmax scores of random logits. A large deviation gives a few experts almost all probability.
inline View softmax_scores(Store& s, int64_t tokens, int64_t experts, double deviation) {
  const View identity = s.constant(f32, {experts, experts}, 0);
  for (int64_t e = 0; e < experts; ++e) {
    static_cast<float*>(identity.at(e).data)[e] = 1;
  }
  const View scores = s.poison(f32, {tokens, experts});
  oracle::compute(RouterScores{.x = s.normal(f32, {tokens, experts}, deviation), .weight = identity, .scores = scores});
  return scores;
}

/// The choices that the oracle makes from random scores.
inline View choices(Store& s, const Sizes& sizes, const View& group, double deviation = 1) {
  const View ids = s.poison(i32, {sizes.tokens, sizes.top_k});
  oracle::compute(
      RouterTopk{.scores = softmax_scores(s, sizes.tokens, sizes.experts, deviation), .group = group, .ids = ids});
  return ids;
}

/// Removes about a third of the choices.
inline void drop_some(Store& s, const View& ids) {
  for (int64_t t = 0; t < ids.size(0); ++t) {
    auto* row = static_cast<int32_t*>(ids.at(t).data);
    for (int64_t k = 0; k < ids.size(1); ++k) row[k] = s.draw() % 3 == 0 ? -1 : row[k];
  }
}

}  // namespace moe::conformance
