// What ranks are said to hold and send is what real ones held and sent.

#include "plan/rank_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/rank_steps.h"

namespace moe {
namespace {

using test::RankMachine;

constexpr int64_t kMicrobatches = 4, kSteps = 2;

struct Measured {
  Traffic traffic;        // of all steps
  int64_t optimizer = 0;  // bytes of the tensors that the rank keeps for its updates
  size_t tensors = 0;     // how many
  int64_t allocated = 0;  // by the device
};

/// What each of `ranks` processes' stand-ins, which talk over TCP, moves in some steps.
std::vector<Measured> measure(int ranks, const ModelConfig& config, const StepConfig& common, const Batch& batch) {
  std::vector<Measured> all(static_cast<size_t>(ranks));
  test::rethrow_first(test::try_on_sockets(ranks, [&](Communicator& communicator) {
    StepConfig step = common;
    step.rank = communicator.rank();
    step.ranks = ranks;
    step.microbatches = kMicrobatches / step.row_ranks();
    const RankMachine machine(step.dtype);
    TrainingStep run(config, step, plan_training(config, step), *machine.device, *machine.backend, communicator);
    run.initialize(1, 0.3);
    const int64_t rows = batch.rows / kMicrobatches;
    for (int64_t number = 1; number <= kSteps; ++number) {
      run.accumulate([&](int64_t index) { return batch_rows(batch, index * rows, rows); }, number);
      run.update(number, 0.01);
    }
    Measured& own = all[static_cast<size_t>(step.rank)];
    own.traffic = dynamic_cast<SocketCommunicator&>(communicator).traffic();
    const auto count = [&](const View& view) {
      own.optimizer += static_cast<int64_t>(view.bytes());
      ++own.tensors;
    };
    for (const Optimizer::Slot& slot : run.optimizer().slots()) {
      for (const View& view : slot.views) {
        if (view) count(view);
      }
    }
    for (size_t i = 0; i < run.masters().size(); ++i) {
      if (run.masters()[i].data != run.parameters()[i].data) count(run.masters()[i]);
    }
    own.allocated = machine.device->allocated_bytes();
  }));
  return all;
}

void expect_planned(const ModelConfig& config, StepConfig step, const Batch& batch) {
  for (const auto& [ranks, stages] : {std::pair{2, 1}, {4, 1}, {2, 2}, {4, 2}, {3, 3}}) {
    SCOPED_TRACE(fmt::format("{} ranks, {} stages", ranks, stages));
    step.stages = stages;
    const std::vector<Measured> measured = measure(ranks, config, step, batch);
    for (int rank = 0; rank < ranks; ++rank) {
      SCOPED_TRACE(fmt::format("rank {}", rank));
      step.rank = rank;
      step.ranks = ranks;
      step.microbatches = kMicrobatches / step.row_ranks();
      const Measured& own = measured[static_cast<size_t>(rank)];
      Traffic planned;
      for (int64_t number = 1; number <= kSteps; ++number) planned += step_traffic(config, step, number).all();
      EXPECT_EQ(own.traffic.sent, planned.sent);
      EXPECT_EQ(own.traffic.received, planned.received);
      const MemoryPlan plan = plan_training(config, step);
      EXPECT_EQ(own.allocated, plan.total());
      // Each tensor begins at a multiple of 256 bytes.
      EXPECT_LE(own.optimizer, plan.optimizer);
      EXPECT_GT(own.optimizer, plan.optimizer - static_cast<int64_t>(own.tensors * Arena::kAlignment));
    }
  }
}

TEST(PlannedRanks, AreTheRealOnesForEveryMethod) {
  for (const MethodCase& test : method_cases()) {
    const Batch batch = clear_choices_batch(test.config.vocab_size);
    for (const BalanceScope scope : {BalanceScope::sequence, BalanceScope::step}) {
      SCOPED_TRACE(test.name + " " + name(scope));
      StepConfig step = test.step(batch, kMicrobatches, DType::f32);
      step.balance.scope = scope;
      expect_planned(test.config, step, batch);
    }
  }
}

TEST(PlannedRanks, AreTheRealOnesWithEverySetting) {
  MethodCase test = method_case("deepseekmoe");
  test.config.moe_intermediate_size = 256;  // so that gradients are large enough to go in parts
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  const auto with = [&](const char* what, DType dtype, const std::function<void(StepConfig&)>& change) {
    SCOPED_TRACE(what);
    StepConfig step = test.step(batch, kMicrobatches, dtype);
    change(step);
    expect_planned(test.config, step, batch);
  };
  with("bf16", DType::bf16, [](StepConfig&) {});
  with("f32", DType::f32, [](StepConfig&) {});
  with("f64", DType::f64, [](StepConfig&) {});
  with("muon", DType::bf16, [](StepConfig& one) { one.optimizer.kind = "muon"; });
  with("freeze", DType::bf16, [](StepConfig& one) { one.freeze = {"embedding", "layers.1.router"}; });
  with("recompute", DType::bf16, [](StepConfig& one) { one.recompute = true; });
}

TEST(PlannedRanks, ArePrinted) {
  const MethodCase test = method_case("deepseekmoe");
  StepConfig step = test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, DType::bf16);
  step.ranks = 4;
  step.microbatches = 1;
  const std::string text = rank_tables(test.config, step);
  for (const int rank : {0, 1, 2, 3}) {
    step.rank = rank;
    EXPECT_THAT(text, testing::HasSubstr(fmt::format("{:>14}\n", step_traffic(test.config, step).all().received)));
  }
  step.ranks = 4;
  step.stages = 2;
  for (const int rank : {0, 1, 2, 3}) {
    step.rank = rank;
    EXPECT_THAT(rank_tables(test.config, step),
                testing::HasSubstr(fmt::format("{:>14}\n", step_traffic(test.config, step).all().received)));
  }
  step.ranks = 9;
  step.stages = 3;
  EXPECT_THAT(rank_tables(test.config, step), testing::HasSubstr("the first rank of each stage"));
  step.stages = 1;
  step.rank = 0;
  step.ranks = 100;
  const std::string many = rank_tables(test.config, step);
  EXPECT_EQ(std::count(many.begin(), many.end(), '\n'), 8) << "the ranks with most and least\n" << many;
}

}  // namespace
}  // namespace moe
