#include "train/routing_alarm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "eval/routing_counts.h"

namespace moe {
namespace {

constexpr double kMuchLess = 0.25, kLeastAtStart = 0.1;

double experts_in_effect(std::span<const int64_t> counts) {
  return std::exp(load_statistics(counts).entropy * std::log(static_cast<double>(counts.size())));
}

}  // namespace

std::vector<std::string> RoutingAlarm::after(int64_t step, std::span<const int32_t> counts) {
  const auto experts = static_cast<size_t>(config_.n_routed_experts);
  std::vector<std::string> warnings;
  if (experts < 2 || counts.empty()) return warnings;
  sums_.resize(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) sums_[i] += counts[i];
  if (++steps_ < kSteps) return warnings;
  const bool first = reference_.empty();
  const auto least = static_cast<double>(config_.num_experts_per_tok);
  int64_t moe_index = 0;
  for (int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
    if (!config_.is_moe_layer(layer)) continue;
    const auto index = static_cast<size_t>(moe_index++);
    const auto of_layer = std::span<const int64_t>(sums_).subspan(index * experts, experts);
    const bool chosen = std::accumulate(of_layer.begin(), of_layer.end(), int64_t{0}) > 0;
    const double now = chosen ? experts_in_effect(of_layer) : static_cast<double>(experts);
    const double freedom = std::max(now - least, 0.0), greatest = static_cast<double>(experts) - least;
    if (first) {
      reference_.push_back(freedom);
      if (freedom < kLeastAtStart * greatest) warnings.push_back(warning(layer, step, now, 0));
    } else if (freedom < kMuchLess * reference_[index]) {
      warnings.push_back(warning(layer, step, now, reference_[index] + least));
      reference_[index] = freedom;
    }
  }
  steps_ = 0;
  std::fill(sums_.begin(), sums_.end(), 0);
  return warnings;
}

std::string RoutingAlarm::warning(int64_t layer, int64_t step, double now, double before) const {
  const std::string was = before > 0 ? fmt::format("where it was {:.1f} before", before) : "from the beginning on";
  return fmt::format(
      "step {}: the routing of layer {} collapses: its tokens use {:.1f} of {} experts in effect (at least {}), {}; "
      "raise balance.alpha_expert, lower optimizer.learning_rate, or keep the routers (train.freeze = "
      "[\"layers.*.router\"])",
      step, layer, now, config_.n_routed_experts, config_.num_experts_per_tok, was);
}

}  // namespace moe
