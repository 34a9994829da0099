#include "plan/stage_cost.h"

#include <algorithm>

#include "model/cost.h"

namespace moe {
namespace {

/// From so many layers of a kind on, each further one adds the same.
constexpr int64_t kPlanned = 4;

/// A model of these layers alone.
ModelConfig model_of(ModelConfig config, const StageLayers& layers) {
  config.num_hidden_layers = layers.dense + layers.moe;
  config.first_k_dense_replace = layers.dense;
  config.moe_layer_freq = 1;
  return config;
}

}  // namespace

StagePlanner::StagePlanner(const ModelConfig& config, const StepConfig& step) : config_(config), step_(step) {
  step_.microbatches = 2;
}

const StageCost& StagePlanner::cost(const StageLayers& layers) {
  const auto found = costs_.find(layers);
  return found != costs_.end() ? found->second : costs_.emplace(layers, planned(layers)).first->second;
}

MemoryPlan StagePlanner::plan(const StageLayers& layers) const {
  ModelConfig config = model_of(config_, layers);
  // The plan of a model has a head. Without one it would be one logit for each token.
  if (!layers.head) config.vocab_size = 1;
  return plan_training(config, step_);
}

StageCost StagePlanner::planned(const StageLayers& layers) const {
  StageLayers few = layers;
  few.dense = std::min(layers.dense, kPlanned);
  few.moe = std::min(layers.moe, kPlanned);
  const MemoryPlan plan = this->plan(few);
  StageCost cost{.saved = static_cast<double>(plan.saved),
                 .scratch = static_cast<double>(plan.scratch),
                 .batch = static_cast<double>(plan.batch),
                 .flops = flops(layers)};
  for (const auto of_kind : {&StageLayers::dense, &StageLayers::moe}) {
    const auto count = static_cast<double>(layers.*of_kind), in_plan = static_cast<double>(few.*of_kind);
    if (count == 0) continue;
    StageLayers more = few;
    more.*of_kind += 1;
    const MemoryPlan larger = this->plan(more);
    const auto each = static_cast<double>(larger.saved - plan.saved);
    cost.waiting += count * each;
    cost.saved += (count - in_plan) * each;
    cost.batch += (count - in_plan) * static_cast<double>(larger.batch - plan.batch);  // counts of experts
  }
  return cost;
}

double StagePlanner::flops(const StageLayers& layers) const {
  const ModelConfig config = model_of(config_, layers);
  const auto tokens = static_cast<double>(step_.microbatch_tokens), length = static_cast<double>(step_.sequence_length);
  const double head = 6 * tokens * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
  const double of_layers = exact_flops(config, step_.sequence_length) * tokens / length - head;
  return of_layers * (step_.recompute ? 4.0 / 3 : 1) + (layers.head ? head : 0);
}

}  // namespace moe
