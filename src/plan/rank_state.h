#pragma once
/// What each rank of a layout holds from step to step: parameters, gradients and the optimiser's state.

#include <vector>

#include "model/layout.h"
#include "train/step.h"

namespace moe {

/// What is divided among the ranks that would hold the same (ZeRO): the optimiser's state, the gradients too, or the
/// weights too. By whole tensors, each with one owner.
enum class Sharding { optimizer = 1, gradients = 2, weights = 3 };

/// Bytes are doubles, as in model/cost.h: exact up to 2^53.
struct RankState {
  double parameters = 0;  ///< number of elements that it computes with; with Sharding::weights, that it keeps
  double weights = 0;     ///< bytes
  double gradients = 0;   ///< f32; complete ones, or its own and those of the layer that is computed
  double optimizer = 0;   ///< moments, and masters if weights are bf16
};

/// The ranks of one stage. Every sum is what one rank has in its part of the layout, before it is divided by ZeRO.
struct StageState {
  std::vector<RankState> ranks;  ///< DP x EP, in their order

  // Of trained parameters: those of all ranks of the stage, and those of routed experts, which DP ranks have.
  double shared_gradients = 0, shared_weights = 0;
  double expert_gradients = 0, expert_weights = 0;

  double owned_most = 0;  ///< the most elements that one rank updates
  /// The rank of the stage that updates the embedding; -1: the stage does not train it.
  int64_t embedding_owner = -1;
};

/// For each stage. `step` says the types and the optimiser. Tensors are taken from the largest to the smallest, as a
/// rank holds them: of routed experts each rank of EP has a part. Each goes to the rank that has the least so far, a
/// tensor of experts to the EP neighbours that have the least together; of equal ones, to the first. With data
/// parallelism alone this is train/owners.h. If the head is the embedding, the last stage has the matrix and its
/// gradient too, which its first rank adds up; it is updated in the first stage alone.
std::vector<StageState> rank_states(const ModelConfig& config, const StepConfig& step, const Layout& layout,
                                    Sharding sharding);

}  // namespace moe
