#pragma once
/// How the ranks of a run divide its work and the model.

#include "model/parameters.h"
#include "ops/communicator.h"

namespace moe {

/// The ranks are `stages` stages of a pipeline, as many in each. A stage has some of the layers, and its ranks follow
/// each other and divide the rows of a step. `experts` of them that follow each other divide the routed experts too;
/// together they have one copy of them. This is rank `rank` of `ranks`.
struct RankLayout {
  int rank = 0, ranks = 1, experts = 1, stages = 1;

  int stage_ranks() const { return ranks / stages; }
  int stage() const { return rank / stage_ranks(); }
  /// This rank's place in its stage. Ranks of the same place compute the same rows.
  int share() const { return rank % stage_ranks(); }
  RankGroup stage_group() const { return {.first = rank - share(), .count = stage_ranks(), .step = 1}; }
  /// The ranks that compute the same rows, one of each stage.
  RankGroup pipeline() const { return {.first = share(), .count = stages, .step = stage_ranks()}; }

  /// This rank's place among those that have one copy of the routed experts.
  int member() const { return rank % experts; }
  /// The ranks that have one copy of the routed experts, with this one.
  RankGroup expert_group() const { return {.first = rank - member(), .count = experts, .step = 1}; }
  /// The ranks that have the same routed experts as this one.
  RankGroup same_experts() const {
    return {.first = rank - share() + member(), .count = stage_ranks() / experts, .step = experts};
  }
  /// True if each rank has other experts of the parameter.
  bool divides(const Parameter& parameter) const {
    return experts > 1 && parameter.kind == ParameterKind::routed_experts;
  }
  /// True if the parameter is the embedding as the head of the last stage. Its gradients go to the first stage, which
  /// updates it.
  bool is_tied_head(const Parameter& parameter) const {
    return parameter.role == ParameterRole::embedding && stage() > 0;
  }
  /// The ranks that have this rank's part of the parameter.
  RankGroup holders(const Parameter& parameter) const { return divides(parameter) ? same_experts() : stage_group(); }
};

}  // namespace moe
