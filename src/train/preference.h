#pragma once
/// Direct preference optimisation (Rafailov et al. 2023). A pair is a chosen and a rejected answer to one prompt. With
/// the log-probability l of an answer under the model, and r under the model that the run began with:
///   z = beta ((l_chosen - r_chosen) - (l_rejected - r_rejected)),   loss = -log sigmoid(z),   the mean over the pairs.
/// The gradient by l_chosen is -beta sigmoid(-z), and by l_rejected its opposite. So a step first computes l of all
/// pairs, and then trains on cross-entropy whose targets have these weights.

#include <span>
#include <vector>

#include "batch/batch.h"

namespace moe {

enum class Objective { next_token, dpo };
const char* name(Objective objective);

/// Means over pairs.
struct PreferenceReport {
  double loss = 0;
  double accuracy = 0;  ///< the part with z above 0; of z = 0, half counts
  double margin = 0;    ///< z
  double chosen = 0;    ///< beta (l_chosen - r_chosen)
  double rejected = 0;  ///< the same of the rejected answers
};

/// The sums of a step's pairs. For one thread at a time.
class PreferenceSums {
 public:
  explicit PreferenceSums(double beta) : beta_(beta) {}

  /// Adds a pair: the log-probabilities of its answers divided by the reference's. Returns beta sigmoid(-z).
  double add(double chosen_change, double rejected_change);
  int64_t pairs() const { return pairs_; }
  PreferenceReport mean() const;

 private:
  double beta_;
  int64_t pairs_ = 0;
  PreferenceReport sums_;
};

/// The log-probability of the learned tokens of each segment of a batch, from the cross-entropies of its tokens, added
/// in their order.
std::vector<double> segment_log_probabilities(const Batch& batch, std::span<const float> row_loss);

/// Adds the pairs of a batch (segments 2 i and 2 i + 1) to `sums`, and sets the weights of its targets.
void weigh_pairs(Batch& batch, std::span<const double> log_probabilities, PreferenceSums& sums);

}  // namespace moe
