#pragma once
/// Compares the memory that a step used with its plan.

#include <gtest/gtest.h>

#include "tests/support/tiny_model.h"

namespace moe {

/// A microbatch like that of a plan: every token is a document of its own, so that there are as many as there can be.
inline Batch most_documents(const ModelConfig& config, int64_t rows, int length) {
  const std::vector<int> documents(static_cast<size_t>(length), 1);
  return packed_batch(std::vector<std::vector<int>>(static_cast<size_t>(rows), documents), length, config.vocab_size,
                      4);
}

/// After microbatches of `rows` rows of `length` tokens with as many documents as there can be, every class of the plan
/// was used to its last byte, no more and no less.
inline void expect_used_as_planned(TrainingStep& step, const MemoryPlan& plan, const ModelConfig& config, int64_t rows,
                                   int length) {
  for (int64_t number = 1; number <= 3; ++number) {  // in both stages of StableMoE
    step.accumulate([&](int64_t) { return most_documents(config, rows, length); }, number);
    step.update(number, 1e-3);
  }
  const MemoryPlan used = step.used();
  EXPECT_EQ(used.parameters, plan.parameters);
  EXPECT_EQ(used.gradients, plan.gradients);
  EXPECT_EQ(used.added_gradients, plan.added_gradients);
  EXPECT_EQ(used.optimizer, plan.optimizer);
  EXPECT_EQ(used.batch, plan.batch);
  EXPECT_EQ(used.saved, plan.saved);
  EXPECT_EQ(used.scratch, plan.scratch);
  EXPECT_GT(used.saved, 0);
  EXPECT_GT(used.scratch, 0);
}

}  // namespace moe
