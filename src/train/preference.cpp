#include "train/preference.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moe {

const char* name(Objective objective) { return objective == Objective::dpo ? "dpo" : "next_token"; }

double PreferenceSums::add(double chosen_change, double rejected_change) {
  const double z = beta_ * (chosen_change - rejected_change);
  sums_.loss += std::max(-z, 0.0) + std::log1p(std::exp(-std::abs(z)));
  sums_.accuracy += z > 0 ? 1 : z == 0 ? 0.5 : 0;
  sums_.margin += z;
  sums_.chosen += beta_ * chosen_change;
  sums_.rejected += beta_ * rejected_change;
  ++pairs_;
  return beta_ / (1 + std::exp(z));
}

PreferenceReport PreferenceSums::mean() const {
  const double pairs = pairs_ > 0 ? static_cast<double>(pairs_) : 1;
  return {.loss = sums_.loss / pairs,
          .accuracy = sums_.accuracy / pairs,
          .margin = sums_.margin / pairs,
          .chosen = sums_.chosen / pairs,
          .rejected = sums_.rejected / pairs};
}

std::vector<double> segment_log_probabilities(const Batch& batch, std::span<const float> row_loss) {
  MOE_CHECK(row_loss.size() >= batch.tokens.size());
  std::vector<double> sums(batch.segment_tokens.size());
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    if (batch.segment_id[t] >= 0) sums[static_cast<size_t>(batch.segment_id[t])] -= row_loss[t];
  }
  return sums;
}

void weigh_pairs(Batch& batch, std::span<const double> log_probabilities, PreferenceSums& sums) {
  MOE_CHECK(batch.reference.size() == log_probabilities.size() && log_probabilities.size() % 2 == 0);
  std::vector<float> weight_of_segment;
  for (size_t segment = 0; segment < log_probabilities.size(); segment += 2) {
    const auto change = [&](size_t of) { return log_probabilities[of] - batch.reference[of]; };
    const auto weight = static_cast<float>(sums.add(change(segment), change(segment + 1)));
    weight_of_segment.insert(weight_of_segment.end(), {weight, -weight});
  }
  batch.weights.assign(batch.tokens.size(), 0);
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    if (batch.segment_id[t] >= 0) batch.weights[t] = weight_of_segment[static_cast<size_t>(batch.segment_id[t])];
  }
}

}  // namespace moe
