#pragma once
/// Whether a plan is neither too small nor too large for the steps that it is made for.

#include <utility>

#include <gtest/gtest.h>

#include "tests/support/tiny_model.h"

namespace moe {

/// A microbatch like that of a plan: every token is a document of its own, so that there are as many as there can be.
inline Batch most_documents(const ModelConfig& config, int64_t rows, int length) {
  const std::vector<int> documents(static_cast<size_t>(length), 1);
  return packed_batch(std::vector<std::vector<int>>(static_cast<size_t>(rows), documents), length, config.vocab_size,
                      4);
}

/// Three steps (of both stages of StableMoE, where its second begins among them) need every class of the plan to its
/// last buffer: as planned they run, and with one alignment less of any class they do not.
inline void expect_tight_plan(const ModelConfig& config, const StepConfig& step, int length, Device& device,
                              Backend& backend) {
  const MemoryPlan plan = plan_training(config, step);
  const Batch batch = most_documents(config, step.microbatch_tokens / length, length);
  const auto run = [&](const MemoryPlan& given) {
    TrainingStep training(config, step, given, device, backend);
    training.initialize(1, 0.05);
    for (int64_t number = 1; number <= 3; ++number) {
      training.accumulate([&](int64_t) { return batch; }, number);
      training.update(number, 1e-3);
    }
  };
  EXPECT_NO_THROW(run(plan));
  constexpr auto kAlignment = static_cast<int64_t>(Arena::kAlignment);
  for (const auto& [name, part] : {std::pair{"parameters", &MemoryPlan::parameters},
                                   {"gradients", &MemoryPlan::gradients},
                                   {"optimizer", &MemoryPlan::optimizer},
                                   {"batch", &MemoryPlan::batch},
                                   {"saved", &MemoryPlan::saved},
                                   {"scratch", &MemoryPlan::scratch}}) {
    MemoryPlan less = plan;
    less.*part -= kAlignment;
    EXPECT_THROW(run(less), Error) << name << " is planned larger than it must be";
  }
}

}  // namespace moe
