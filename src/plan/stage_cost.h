#pragma once
/// The activations and the products of one stage of a pipeline, by the plan of a training step (train/step.h).

#include <map>
#include <tuple>

#include "train/step.h"

namespace moe {

/// The layers of a stage. Only their number matters, so that dense layers are taken to come first.
struct StageLayers {
  int64_t dense = 0, moe = 0;
  bool head = false;  ///< the last stage has the final norm, the head and the loss

  auto operator<=>(const StageLayers&) const = default;
};

/// Bytes and FLOPs are doubles, as in model/cost.h.
struct StageCost {
  double saved = 0;    ///< kept from forward to backward, at the peak, of one microbatch
  double waiting = 0;  ///< of a further microbatch that waits for its backward pass
  double scratch = 0;
  double batch = 0;  ///< of two microbatches
  double flops = 0;  ///< of a microbatch, with those of recompute
};

/// Plans stages of a model. Layers of a kind need equal memory, so a stage of many layers is planned as one of a few
/// and the difference that one more makes: the time of a plan does not grow with the model. For
/// one thread at a time.
class StagePlanner {
 public:
  /// `step`: of one rank. Its microbatches are planned as two, so that activations do not share the memory of
  /// gradients.
  StagePlanner(const ModelConfig& config, const StepConfig& step);

  /// Of a model whose experts are all on one rank. The same stage is planned once.
  const StageCost& cost(const StageLayers& layers);

 private:
  MemoryPlan plan(const StageLayers& layers) const;
  StageCost planned(const StageLayers& layers) const;
  double flops(const StageLayers& layers) const;

  ModelConfig config_;
  StepConfig step_;
  std::map<StageLayers, StageCost> costs_;
};

}  // namespace moe
