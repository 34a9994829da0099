// What ranks are said to hold and send is what real ones held and sent.

#include "plan/rank_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/layout_plan.h"
#include "tests/support/rank_steps.h"
#include "tests/support/tiny_model.h"
#include "train/owners.h"

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
  struct Division {
    int ranks, experts, stages;
  };
  for (const auto& [ranks, experts, stages] :
       {Division{2, 1, 1}, {4, 1, 1}, {2, 2, 1}, {4, 2, 1}, {3, 3, 1}, {2, 1, 2}, {4, 1, 2}, {3, 1, 3}, {4, 2, 2}}) {
    if (config.n_routed_experts % experts != 0 || kMicrobatches % (ranks / stages) != 0) continue;
    SCOPED_TRACE(fmt::format("{} ranks, experts divided among {}, {} stages", ranks, experts, stages));
    step.expert_ranks = experts;
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
      // Behind each tensor are 1 to 256 bytes: 256 if its own are a multiple of that.
      EXPECT_LE(own.optimizer, plan.optimizer);
      EXPECT_GE(own.optimizer, plan.optimizer - static_cast<int64_t>(own.tensors * Arena::kAlignment));
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
  test.config.tie_word_embeddings = true;
  with("tied", DType::bf16, [](StepConfig&) {});
  with("tied and frozen", DType::f32, [](StepConfig& one) { one.freeze = {"embedding"}; });
  test.config.tie_word_embeddings = false;
  with("norms", DType::bf16, [](StepConfig& one) { one.rebuild = Rebuild::norms; });
  with("rebuild", DType::bf16, [](StepConfig& one) { one.rebuild = Rebuild::all; });
}

/// `moe cost` knows no headers, and counts a collective as if its ranks were a ring: all of them together send as much.
TEST(PlannedRanks, SendWhatThePlanOfTheirLayoutSays) {
  constexpr int64_t kLength = 32, kRows = 2, kRowsPerStep = 24;
  LayoutRun run{.model = tiny_config(), .step = {}, .rows_per_step = kRowsPerStep, .card = {}};
  run.model.num_hidden_layers = 5;
  run.step.dtype = DType::bf16;
  run.step.sequence_length = kLength;
  LayoutPlanner planner(run);
  for (const Layout& layout : {Layout{.data = 1, .expert = 2, .pipeline = 1},
                               {.data = 2, .expert = 3, .pipeline = 1},
                               {.data = 1, .expert = 2, .pipeline = 2},
                               {.data = 2, .expert = 3, .pipeline = 2},
                               {.data = 1, .expert = 1, .pipeline = 4}}) {
    for (const bool recompute : {false, true}) {
      SCOPED_TRACE(fmt::format("{} recompute {}", text_of(layout), recompute));
      const LayoutPlan plan = planner.plan(layout, kRows, recompute);
      StepConfig step = run.step;
      step.microbatch_tokens = kRows * kLength;
      step.recompute = recompute;
      step.ranks = static_cast<int>(layout.ranks());
      step.expert_ranks = static_cast<int>(layout.expert);
      step.stages = static_cast<int>(layout.pipeline);
      step.microbatches = plan.microbatches;
      for (step.rank = 0; step.rank < step.ranks; ++step.rank) {
        SCOPED_TRACE(step.rank);
        const RankWire& planned = plan.wire[static_cast<size_t>(step.rank)];
        const StepTraffic traffic = step_traffic(run.model, step);
        const LayerRange layers = step.layers(run.model);
        int64_t moe_layers = 0;
        for (int64_t layer = layers.begin; layer < layers.end; ++layer) moe_layers += run.model.is_moe_layer(layer);
        const int64_t calls = moe_layers * ((recompute ? 2 : 1) * 4 + 3);
        const int64_t headers = kHeaderBytes * plan.microbatches * calls * (layout.expert - 1);
        EXPECT_EQ(static_cast<double>(traffic.experts.sent - headers), planned.tokens + planned.outputs);
        EXPECT_EQ(traffic.experts.sent, traffic.experts.received);
        const int64_t neighbours = (layers.begin > 0) + (layers.end < run.model.num_hidden_layers);
        EXPECT_EQ(static_cast<double>(traffic.stages.sent - kHeaderBytes * plan.microbatches * neighbours),
                  planned.stages);
      }
    }
  }
}

/// If the head is the embedding, its gradient goes to the first stage and its weights come back. Weights: all ranks of
/// a stage together send as much as a ring would. Gradients over TCP do not; a stage of one rank adds none up.
TEST(PlannedRanks, SendTheTiedMatrixAsThePlanOfTheirLayoutSays) {
  constexpr int64_t kLength = 32, kRows = 2;
  LayoutRun run{.model = tiny_config(), .step = {}, .rows_per_step = 24, .card = {}};
  run.card.product = run.card.read = 1e12;
  run.card.link = run.card.network = 1e9;
  run.model.tie_word_embeddings = true;
  run.step.sequence_length = kLength;
  const auto matrix = static_cast<double>(run.model.vocab_size * run.model.hidden_size);
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const bool frozen : {false, true}) {
      run.step.dtype = dtype;
      run.step.freeze = frozen ? std::vector<std::string>{"embedding"} : std::vector<std::string>{};
      LayoutPlanner planner(run);
      for (const Layout& layout : {Layout{.pipeline = 2},
                                   {.pipeline = 3},
                                   {.data = 2, .pipeline = 2},
                                   {.data = 2, .expert = 2, .pipeline = 2}}) {
        SCOPED_TRACE(fmt::format("{} {} frozen {}", name(dtype), text_of(layout), frozen));
        const LayoutPlan plan = planner.plan(layout, kRows, false);
        StepConfig step = run.step;
        step.microbatch_tokens = kRows * kLength;
        step.ranks = static_cast<int>(layout.ranks());
        step.stages = static_cast<int>(layout.pipeline);
        step.expert_ranks = static_cast<int>(layout.expert);
        step.microbatches = plan.microbatches;
        const auto tied = tied_ranks(run.model, step);
        EXPECT_EQ(tied.has_value(), !frozen);
        double planned = 0, weights = 0, gradients = 0;
        for (step.rank = 0; step.rank < step.ranks; ++step.rank) {
          const RankWire& wire = plan.wire[static_cast<size_t>(step.rank)];
          const StepTraffic traffic = step_traffic(run.model, step);
          const std::vector<Parameter> table = held_table(run.model, step);
          const std::vector<int> owners = owners_of(table, step.layout());
          int64_t messages = tied && tied->embedding == step.rank ? 1 : 0;
          for (size_t i = 0; i < table.size(); ++i) {
            if (table[i].trained() && owners[i] == step.rank) messages += step.layout().holders(table[i]).count - 1;
          }
          planned += wire.weights;
          weights += static_cast<double>(traffic.weights.sent - kHeaderBytes * messages);
          if (layout.stage_ranks() > 1) continue;
          const int64_t header = tied && tied->head == step.rank ? kHeaderBytes : 0;
          EXPECT_EQ(static_cast<double>(traffic.gradients.sent - header), wire.gradients);
          gradients += wire.gradients;
        }
        EXPECT_EQ(planned, weights);
        if (layout.stage_ranks() > 1) continue;
        EXPECT_EQ(gradients, frozen ? 0 : 4 * matrix);
        EXPECT_EQ(weights, frozen ? 0 : matrix * static_cast<double>(size_of(dtype)));
        LayoutRun apart = run;
        apart.model.tie_word_embeddings = false;
        const double more =
            plan.time.communication - LayoutPlanner(apart).plan(layout, kRows, false).time.communication;
        EXPECT_NEAR(more, frozen ? 0 : (gradients + weights) / 1e9 + 2 * 40e-6, 1e-9);
      }
    }
  }
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
  for (const int experts : {1, 2}) {
    step.expert_ranks = experts;
    const std::string table = rank_tables(test.config, step);
    for (const int rank : {0, 1, 2, 3}) {
      step.rank = rank;
      const StepTraffic traffic = step_traffic(test.config, step);
      EXPECT_THAT(table, testing::HasSubstr(fmt::format("{:>14}\n", traffic.all().received)));
      if (experts > 1) {
        EXPECT_THAT(table, testing::HasSubstr(fmt::format("{:>14}{:>14}", traffic.experts.sent, traffic.stages.sent)));
        EXPECT_GT(traffic.experts.sent, 0);
      }
    }
  }
  step.expert_ranks = 1;
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
