#pragma once
/// Warns when the routing of a layer collapses: when its tokens come to choose nearly the same experts.

#include <span>
#include <string>
#include <vector>

#include "model/config.h"

namespace moe {

/// Counts the choices of kSteps steps together. From them follows how many experts a layer uses in effect: exp(H) of
/// the entropy H of the experts' shares, between K (all tokens choose the same K experts) and E (all experts have equal
/// shares). What it is above K is the layer's freedom. For one thread at a time.
class RoutingAlarm {
 public:
  static constexpr int64_t kSteps = 10;

  explicit RoutingAlarm(const ModelConfig& config) : config_(config) {}

  /// After a step with these counts [moe_layers, E] (StepReport::counts). Returns a warning for each layer whose
  /// freedom fell below a quarter of what it was in the run's first kSteps steps, and again when it falls below a
  /// quarter of that; and after the first kSteps steps for each layer with less than a tenth of the greatest freedom.
  std::vector<std::string> after(int64_t step, std::span<const int32_t> counts);

 private:
  std::string warning(int64_t layer, int64_t step, double now, double before) const;

  ModelConfig config_;
  int64_t steps_ = 0;              // since sums_ were empty
  std::vector<int64_t> sums_;      // [moe_layers, E]
  std::vector<double> reference_;  // the freedom of each MoE layer that others are compared with; empty: not yet known
};

}  // namespace moe
