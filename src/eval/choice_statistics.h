#pragma once
/// Which experts the same tokens chose, and which tokens each expert took: counted choice by choice, before any is
/// dropped. L MoE layers, E routed experts, S choice slots per token. Padding counts nowhere.

#include <cstdint>
#include <span>
#include <vector>

#include "data/batch.h"
#include "data/documents.h"

namespace moe {

struct ChoiceStatistics {
  int64_t layers = 0;
  int64_t experts = 0;
  int64_t tokens = 0;           ///< counted in each layer
  int64_t min_count = 0;        ///< an id occurs often enough from here on
  std::vector<int64_t> pairs;   ///< [L, E, E], symmetric: tokens that chose both; on the diagonal, that chose the one
  std::vector<int32_t> ids;     ///< token ids that occur often enough, ascending
  std::vector<int64_t> seen;    ///< how often each of them occurs
  std::vector<uint32_t> taken;  ///< [L, ids, E]: how often each of them chose an expert

  int64_t pair(int64_t layer, int64_t first, int64_t second) const;
};

/// Counts the choices of a fixed list of documents, batch by batch.
class ChoiceCounter {
 public:
  /// Ids that occur less than `min_count` times in all documents get no part in `taken`.
  ChoiceCounter(const Documents& documents, int64_t layers, int64_t experts, int64_t min_count);

  /// `chosen`: [L, T, S] for the batch's T tokens, -1: no expert in that slot. Tokens of domain -1 are padding.
  void add(const Batch& batch, std::span<const int32_t> chosen);

  const ChoiceStatistics& statistics() const { return statistics_; }

 private:
  void add_token(int64_t layer, int32_t id, std::span<const int32_t> slots);

  ChoiceStatistics statistics_;
  std::vector<int32_t> index_of_;  // of a token id in statistics_.ids; -1: too rare
};

struct ExpertPair {
  int64_t first = 0;
  int64_t second = 0;   ///< larger than `first`
  int64_t tokens = 0;   ///< that chose both
  double expected = 0;  ///< if choices were independent
};

/// The `count` pairs of a layer's experts that most tokens chose together, that first (ties: the lower experts); none
/// that no token chose. With n_i tokens choosing expert i, independence spreads the layer's pairs in proportion to
/// n_i n_j: expected_ij = (sum of all pairs' tokens) * n_i n_j / (sum over a < b of n_a n_b).
std::vector<ExpertPair> top_pairs(const ChoiceStatistics& statistics, int64_t layer, int64_t count);

struct TakenToken {
  int32_t id = 0;
  int64_t seen = 0;
  double share = 0;  ///< of its occurrences, how many chose the expert
};

/// The `count` token ids with the largest share for an expert, that first (ties: the more frequent, then the lower id);
/// none that never chose it, none that is too rare (ChoiceCounter).
std::vector<TakenToken> top_tokens(const ChoiceStatistics& statistics, int64_t layer, int64_t expert, int64_t count);

}  // namespace moe
