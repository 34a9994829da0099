#pragma once
/// Pairs of experts that the same tokens chose, and the tokens of each expert. Choices are counted before any is
/// dropped. L MoE layers, E routed experts, S choice slots per token. Padding is not counted.

#include <cstdint>
#include <span>
#include <vector>

#include "batch/batch.h"
#include "data/documents.h"

namespace moe {

struct ChoiceStatistics {
  int64_t layers = 0;
  int64_t experts = 0;
  int64_t tokens = 0;     ///< number of counted tokens in each layer
  int64_t min_count = 0;  ///< ids with at least so many occurrences have statistics
  /// [L, E, E], symmetric: tokens that chose both; on the diagonal, tokens that chose the expert
  std::vector<int64_t> pairs;
  std::vector<int32_t> ids;     ///< the token ids with enough occurrences, ascending
  std::vector<int64_t> seen;    ///< the occurrences of each of these ids
  std::vector<uint32_t> taken;  ///< [L, ids, E]: how often each of these ids chose an expert

  int64_t pair(int64_t layer, int64_t first, int64_t second) const;
};

/// Counts the choices of a fixed list of documents, batch by batch. Use it on one thread at a time.
class ChoiceCounter {
 public:
  /// Ids with fewer than `min_count` occurrences in all documents have no entry in `taken`.
  ChoiceCounter(const Documents& documents, int64_t layers, int64_t experts, int64_t min_count);

  /// `chosen`: [L, T, S] for the batch's T tokens; -1: no expert in that slot. Tokens of domain -1 are padding.
  void add(const Batch& batch, std::span<const int32_t> chosen);

  const ChoiceStatistics& statistics() const { return statistics_; }

 private:
  void add_token(int64_t layer, int32_t id, std::span<const int32_t> slots);

  ChoiceStatistics statistics_;
  std::vector<int32_t> index_of_;  // index of a token id in statistics_.ids; -1: too rare
};

struct ExpertPair {
  int64_t first = 0;
  int64_t second = 0;   ///< larger than `first`
  int64_t tokens = 0;   ///< tokens that chose both
  double expected = 0;  ///< expected number for independent choices
};

/// The `count` pairs of a layer's experts that the most tokens chose together, most tokens first (among equals: the
/// lower experts). Pairs that no token chose are left out. If n_i tokens choose expert i, independence distributes the
/// pairs of the layer in proportion to n_i n_j: expected_ij = (sum of all pairs' tokens) * n_i n_j / (sum over a < b of
/// n_a n_b).
std::vector<ExpertPair> top_pairs(const ChoiceStatistics& statistics, int64_t layer, int64_t count);

struct TakenToken {
  int32_t id = 0;
  int64_t seen = 0;
  double share = 0;  ///< fraction of its occurrences that chose the expert
};

/// The `count` token ids with the largest share for an expert, largest first (among equals: the more frequent id, then
/// the lower id). Ids that never chose it or are too rare (ChoiceCounter) are left out.
std::vector<TakenToken> top_tokens(const ChoiceStatistics& statistics, int64_t layer, int64_t expert, int64_t count);

}  // namespace moe
