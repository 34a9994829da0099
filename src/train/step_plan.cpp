// The plan of a step's memory: the step itself, run over a null device.

#include <algorithm>
#include <limits>
#include <utility>

#include "base/units.h"
#include "comm/planned_ranks.h"
#include "train/shared_memory.h"
#include "train/step.h"

namespace moe {
namespace {

constexpr auto kAlignment = static_cast<int64_t>(Arena::kAlignment);

// Positions in a microbatch, and choices of experts, are numbered in 32 bits on every device.
void refuse_too_many_tokens(const ModelConfig& config, int64_t tokens, int64_t sequence_length) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const auto refuse = [&](int64_t count, const char* of_what) {
    if (count <= kMost) return;
    fail("a microbatch of {} of {} tokens has {} {}, expected at most {}; use fewer rows or shorter sequences",
         counted(tokens / sequence_length, "row"), sequence_length, count, of_what, kMost);
  };
  refuse(tokens, "tokens");
  if (config.moe_layers() > 0) refuse(tokens * config.router().slots(), "choices of experts");
}

/// FLOPs of the weight gradients of experts that train in part. Each run of these experts is a product of its own,
/// which counts every row; here are the runs' rows if every expert has as many.
struct PartFlops {
  double counted = 0, expected = 0;

  PartFlops(const std::vector<Parameter>& table, double rows) {
    for (const Parameter& parameter : table) {
      if (!parameter.trained() || parameter.experts.empty()) continue;
      const auto experts = static_cast<double>(parameter.shape[0]);
      const double all = 2 * rows * static_cast<double>(parameter.shape.elements()) / experts;
      counted += all * static_cast<double>(parameter.trained_runs().size());
      expected += all * static_cast<double>(parameter.experts.size()) / experts;
    }
  }
};

/// What one microbatch costs a rank, if all experts have as many rows.
void set_costs_of_equal_rows(const ModelConfig& config, StepConfig step, MemoryPlan& plan) {
  // It is what the microbatch costs a rank that has all experts: as many rows, of fewer experts.
  step.rank = step.layout().stage();
  step.ranks = step.stages;
  step.expert_ranks = 1;
  const MemoryPlan alone = plan_training(config, step);
  plan.costs = alone.costs;
  plan.microbatch_flops = alone.microbatch_flops;
}

Traffic times(const Traffic& traffic, int64_t count) {
  return {.sent = traffic.sent * count, .received = traffic.received * count};
}

}  // namespace

MemoryPlan plan_training(const ModelConfig& config, const StepConfig& step) {
  // Each rank of a group plans the rows of all of them.
  refuse_too_many_tokens(config, step.microbatch_tokens * step.expert_ranks, step.sequence_length);
  const auto device = make_null_device();
  CountingBackend counter;
  SharingWatch sharing(counter);
  PlannedRanks ranks(step.rank, step.ranks);
  TrainingStep run(config, step, std::nullopt, *device, sharing, ranks);
  const auto watch = [&] {
    const Arena& gradients = run.memory_.overwritten_gradients();
    sharing.watch(run.memory_.saved(), gradients.base(), gradients.peak_bytes());
  };
  const Batch batch = placeholder_batch(step.microbatch_tokens, step.sequence_length);
  const RouteMode mode = step.mode(1, 0);  // StableMoE's first stage has two routers, its second one
  run.begin(batch.num_targets, batch.num_tokens);
  if (run.counts_first(mode)) run.count_microbatch(batch, mode);
  const int64_t before = counter.total().flops;
  auto costs_before = counter.costs();
  if (step.objective == Objective::dpo) run.score_microbatch(batch, mode);
  watch();
  const int64_t microbatches = run.train_few(batch, mode);
  int64_t microbatch_flops = (counter.total().flops - before) / microbatches;
  if (step.experts) {
    const PartFlops part(run.table_,
                         static_cast<double>(config.router().rows(step.microbatch_tokens, step.sequence_length)));
    microbatch_flops += static_cast<int64_t>(part.expected - part.counted);
  }
  auto costs = counter.costs();
  for (auto& [operation, cost] : costs) {
    const CountingBackend::Cost& earlier = costs_before[operation];
    for (const auto part :
         {&CountingBackend::Cost::calls, &CountingBackend::Cost::flops, &CountingBackend::Cost::bytes}) {
      cost.*part = earlier.*part + (cost.*part - earlier.*part) / microbatches;
    }
  }
  const int64_t before_update = counter.total().flops;
  run.begin_update(1, 0);
  MemoryPlan plan = run.memory_.peaks();
  // Further microbatches add to the first one's gradients, which must then outlive the activations.
  const bool shares = step.microbatches == 1 && step.stages == 1;
  const int64_t fitting = std::clamp<int64_t>(plan.saved - sharing.lead(), 0,
                                              static_cast<int64_t>(run.memory_.overwritten_gradients().peak_bytes()));
  plan.saved_in_gradients = shares ? fitting / kAlignment * kAlignment : 0;
  plan.costs = costs;
  plan.microbatch_flops = microbatch_flops;
  plan.optimizer_flops = counter.total().flops - before_update;
  if (step.expert_ranks > 1) set_costs_of_equal_rows(config, step, plan);
  return plan;
}

/// As many microbatches as need all of the step's memory, and their number.
int64_t TrainingStep::train_few(const Batch& batch, const RouteMode& mode) {
  if (step_.stages == 1) {
    train_microbatch(batch, 0, mode);
    return 1;
  }
  const auto count = static_cast<size_t>(step_.waiting());
  train_in_stages(std::vector<Batch>(count, batch), std::vector<RouteMode>(count, mode));
  return step_.waiting();
}

Traffic expert_traffic(const ModelConfig& config, const StepConfig& step, int64_t number) {
  if (step.expert_ranks == 1) return {};
  const auto device = make_null_device();
  CountingBackend counter;
  PlannedRanks ranks(step.rank, step.ranks);
  TrainingStep run(config, step, std::nullopt, *device, counter, ranks);
  const Batch batch = placeholder_batch(step.microbatch_tokens, step.sequence_length);
  const RouteMode mode = step.mode(number, 0);
  run.begin(batch.num_targets, batch.num_tokens);
  Traffic traffic;
  if (run.counts_first(mode)) {
    run.count_microbatch(batch, mode);
    traffic = times(ranks.take_moved().parts, step.microbatches);
  }
  const int64_t microbatches = run.train_few(batch, mode);
  const Traffic moved = ranks.take_moved().parts;  // only experts are gathered and scattered
  MOE_CHECK(moved.sent % microbatches == 0 && moved.received % microbatches == 0);
  return traffic +=
         times({.sent = moved.sent / microbatches, .received = moved.received / microbatches}, step.microbatches);
}

}  // namespace moe
