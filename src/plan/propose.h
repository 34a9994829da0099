#pragma once
/// Which layout to take: of all that fit, the one that is predicted to be fastest.

#include <optional>

#include "plan/layout_plan.h"

namespace moe {

/// EP beyond this is not proposed: an all-gather of tokens then sends more than each token's choices need.
constexpr int64_t kMostExpertRanks = 8;

/// What is not given is chosen.
struct LayoutChoices {
  std::optional<Layout> layout = {};
  std::optional<int64_t> rows = {};  ///< of a microbatch
  std::optional<bool> recompute = {};
};

/// For each layout the fastest plan that fits, fastest first; then, of layouts that do not fit, the plan with the least
/// memory, least first. Refuses ranks among which the rows of a step cannot be divided.
std::vector<LayoutPlan> plan_layouts(LayoutPlanner& planner, int64_t ranks, const LayoutChoices& choices);

/// Why the first plan is proposed, in one sentence; what is missing if it does not fit.
std::string reason(const LayoutRun& run, const std::vector<LayoutPlan>& plans);

}  // namespace moe
