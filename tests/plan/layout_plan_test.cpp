// The plan of a layout: with one rank it is the plan of a run, and what is divided adds up.

#include "plan/layout_plan.h"

#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/cost.h"
#include "model/presets.h"
#include "plan/propose.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

Card some_card(double memory = 80e9) {
  return {.name = "card", .memory = memory, .product = 700e12, .read = 3e12, .link = 320e9, .network = 50e9};
}

LayoutRun run_of(const ModelConfig& config, int64_t length, int64_t rows_per_step, DType dtype = DType::bf16) {
  LayoutRun run{.model = config, .step = {}, .rows_per_step = rows_per_step, .card = some_card()};
  run.step.dtype = dtype;
  run.step.sequence_length = length;
  run.step.balance.alpha_expert = 0.001f;
  return run;
}

LayoutPlan plan_of(const LayoutRun& run, const Layout& layout, int64_t rows = 1, bool recompute = false) {
  LayoutPlanner planner(run);
  return planner.plan(layout, rows, recompute);
}

MemoryPlan real_plan(const LayoutRun& run, int64_t rows, bool recompute, int rank, int ranks) {
  StepConfig step = run.step;
  step.microbatch_tokens = rows * step.sequence_length;
  step.recompute = recompute;
  step.rank = rank;
  step.ranks = ranks;
  step.microbatches = run.rows_per_step / rows / ranks;
  return plan_training(run.model, step);
}

/// At most this behind each of so many buffers.
double padding(size_t buffers) { return static_cast<double>(buffers * Arena::kAlignment); }

TEST(PlanOfDataParallelRanks, IsThePlanOfTheirSteps) {
  ModelConfig config = find_preset("deepseekmoe-16b").config;
  config.num_hidden_layers = 9;  // more than the plan of a stage computes
  const size_t tensors = parameter_table(config).size();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const LayoutRun run = run_of(config, 512, 24, dtype);
    for (const bool recompute : {false, true}) {
      for (const int ranks : {1, 2, 3, 6}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name(dtype), recompute, ranks));
        const LayoutPlan plan = plan_of(run, {.data = ranks}, 2, recompute);
        EXPECT_EQ(plan.microbatches, 12 / ranks);
        for (int rank = 0; rank < ranks; ++rank) {
          const MemoryPlan real = real_plan(run, 2, recompute, rank, ranks);
          const RankMemory& planned = plan.memory[static_cast<size_t>(rank)];
          const auto near = [](double a, int64_t b, double bound) { EXPECT_NEAR(a, static_cast<double>(b), bound); };
          near(planned.state.weights, real.parameters, padding(tensors));
          near(planned.state.gradients, real.gradients, padding(tensors));
          near(planned.state.optimizer, real.optimizer, padding(3 * tensors));
          near(planned.activations, real.saved + real.scratch, 0);
          near(planned.batch, real.batch, padding(1));
          EXPECT_EQ(planned.activations, planned.even);
          EXPECT_EQ(planned.buffers, 0);
        }
      }
    }
  }
}

/// Each stage of a pipeline, which keeps several microbatches.
void expect_plan_of_stages(const ModelConfig& config) {
  const size_t tensors = parameter_table(config).size();
  const LayoutRun run = run_of(config, 512, 24);
  for (const bool recompute : {false, true}) {
    for (const Layout& layout :
         {Layout{.data = 1, .expert = 1, .pipeline = 3}, {.data = 2, .expert = 1, .pipeline = 2}}) {
      const LayoutPlan plan = plan_of(run, layout, 2, recompute);
      for (int rank = 0; rank < layout.ranks(); ++rank) {
        SCOPED_TRACE(fmt::format("{} recompute {} rank {}", text_of(layout), recompute, rank));
        StepConfig step = run.step;
        step.microbatch_tokens = 2 * step.sequence_length;
        step.recompute = recompute;
        step.rank = rank;
        step.ranks = static_cast<int>(layout.ranks());
        step.stages = static_cast<int>(layout.pipeline);
        step.microbatches = plan.microbatches;
        const MemoryPlan real = plan_training(config, step);
        const RankMemory& planned = plan.memory[static_cast<size_t>(rank)];
        const auto bytes = [](int64_t count) { return static_cast<double>(count); };
        EXPECT_NEAR(planned.state.weights, bytes(real.parameters), padding(tensors));
        EXPECT_NEAR(planned.state.gradients, bytes(real.gradients), padding(tensors));
        EXPECT_NEAR(planned.state.optimizer, bytes(real.optimizer), padding(3 * tensors));
        // Buffers for hidden states are beside all that a stage needs at its peak.
        const double activations = bytes(real.saved + real.scratch);
        EXPECT_LE(activations, planned.activations + planned.buffers);
        EXPECT_GE(activations, 0.9 * (planned.activations + planned.buffers));
      }
    }
  }
}

TEST(PlanOfStages, IsThePlanOfTheirSteps) {
  ModelConfig config = find_preset("deepseekmoe-16b").config;
  config.num_hidden_layers = 9;
  expect_plan_of_stages(config);
}

// The first and the last stage have the matrix and its gradient, and its owner needs room for the gradient of the head.
TEST(PlanOfStages, WhoseHeadIsTheEmbeddingIsThePlanOfTheirSteps) {
  ModelConfig config = find_preset("deepseekmoe-16b").config;
  config.num_hidden_layers = 9;
  config.tie_word_embeddings = true;
  expect_plan_of_stages(config);
  config.vocab_size = 500'000;  // more than all else that the owner needs as scratch
  expect_plan_of_stages(config);
}

TEST(PlanOfStages, CostsWhatTheWholeModelCosts) {
  const ModelConfig config = find_preset("deepseekmoe-16b").config;
  StepConfig step = run_of(config, 1024, 1).step;
  step.microbatch_tokens = 2048;
  for (const bool recompute : {false, true}) {
    step.recompute = recompute;
    StagePlanner planner(config, step);
    const double whole = planner.cost({.dense = 1, .moe = 27, .head = true}).flops;
    step.microbatches = 2;
    EXPECT_NEAR(whole / static_cast<double>(plan_training(config, step).microbatch_flops), 1, 1e-9);
    const double parts = planner.cost({.dense = 1, .moe = 6, .head = false}).flops +
                         2 * planner.cost({.dense = 0, .moe = 7, .head = false}).flops +
                         planner.cost({.dense = 0, .moe = 7, .head = true}).flops;
    EXPECT_NEAR(parts / whole, 1, 1e-9);
    // A stage without a head has no logits.
    step.logits_per_chunk = gpu_logits_per_chunk(config.vocab_size);
    StagePlanner large(config, step);
    EXPECT_LT(large.cost({.moe = 7, .head = false}).scratch, large.cost({.moe = 7, .head = true}).scratch);
  }
}

TEST(PlanOfALayout, HoldsEveryParameterAsOftenAsItSays) {
  for (const bool tied : {false, true}) {
    ModelConfig config = find_preset("deepseekmoe-16b").config;
    config.tie_word_embeddings = tied;
    const auto stored = static_cast<double>(ParameterCounts(config).stored());
    const auto experts = static_cast<double>(ParameterCounts(config).stored(ParameterKind::routed_experts));
    const auto embedding = static_cast<double>(config.vocab_size * config.hidden_size);
    const LayoutRun run = run_of(config, 4096, 64);
    for (const Layout& layout : layouts_of(config, 16, 64)) {
      SCOPED_TRACE(fmt::format("{} tied {}", text_of(layout), tied));
      const LayoutPlan plan = plan_of(run, layout);
      double held = 0, optimizer = 0;
      for (const RankMemory& rank : plan.memory) held += rank.state.parameters, optimizer += rank.state.optimizer;
      const auto data = static_cast<double>(layout.data), of_stage = static_cast<double>(layout.stage_ranks());
      const double again = tied && layout.pipeline > 1 ? embedding : 0;  // in the last stage
      EXPECT_EQ(held, data * experts + of_stage * (stored - experts + again));
      EXPECT_EQ(optimizer, 12 * stored);  // once in all: a master and two moments
      for (const RankMemory& rank : plan.memory) {
        EXPECT_EQ(rank.state.weights, 2 * rank.state.parameters);
        EXPECT_EQ(rank.state.gradients, 4 * rank.state.parameters);
      }
    }
  }
}

TEST(PlanOfALayout, OfOneRankSendsNothing) {
  const LayoutPlan plan = plan_of(run_of(tiny_config(), 32, 4), {}, 2);
  EXPECT_EQ(plan.wire[0].total(), 0);
  EXPECT_EQ(plan.time.communication, 0);
  EXPECT_EQ(plan.time.bubble, 0);
}

TEST(PlanOfALayout, MayHaveOneExpertOnEachRank) {
  const ModelConfig config = tiny_config();
  const LayoutPlan plan = plan_of(run_of(config, 32, 6), {.expert = 6});
  const ParameterCounts counts(config);
  const int64_t others = counts.stored() - counts.stored(ParameterKind::routed_experts);
  EXPECT_EQ(plan.memory[0].state.parameters,
            static_cast<double>(others + counts.stored(ParameterKind::routed_experts) / 6));
  // All tokens of all ranks may choose the one expert.
  EXPECT_GT(plan.memory[0].activations, plan.memory[0].even);
}

TEST(PlanOfAPipeline, HasTheBubbleOf1F1B) {
  ModelConfig config = tiny_config();
  config.first_k_dense_replace = 0;
  config.num_hidden_layers = 8;
  config.vocab_size = 2;  // almost no head, so that stages are equal
  config.hidden_size = config.num_attention_heads * 64;
  config.head_dim = 64;
  LayoutRun run = run_of(config, 64, 32);
  run.card.link = run.card.network = 1e18;
  const StepSeconds time = plan_of(run, {.pipeline = 4}).time;
  const double calls = 40e-6;  // of messages, which the last stage does not send
  EXPECT_NEAR(time.bubble, 3.0 / 32 * time.compute, 0.01 * time.bubble + 6 * calls);
}

TEST(PlanOfAPipeline, KeepsWhatIsInFlight) {
  const ModelConfig config = find_preset("deepseekmoe-16b").config;
  const LayoutRun run = run_of(config, 4096, 64);
  const LayoutPlan plan = plan_of(run, {.pipeline = 4});
  // Stages of seven layers, all of experts but one: four microbatches in the first, one in the last.
  StepConfig step = run.step;
  step.microbatch_tokens = 4096;
  StagePlanner planner(config, step);
  const StageCost& second = planner.cost({.moe = 7, .head = false});
  EXPECT_EQ(plan.memory[1].activations, second.saved + second.scratch + 2 * second.waiting);
  EXPECT_LT(second.waiting, second.saved);
  EXPECT_GT(second.waiting, 0.8 * second.saved);
  const LayoutPlan single = plan_of(run_of(config, 4096, 1), {.pipeline = 4});
  EXPECT_EQ(single.memory[1].activations, second.saved + second.scratch) << "a step of one microbatch";
}

TEST(Sharding, DividesMoreForMoreBytes) {
  const ModelConfig config = find_preset("deepseekmoe-16b").config;
  LayoutRun run = run_of(config, 4096, 64);
  std::vector<LayoutPlan> plans;
  for (const Sharding sharding : {Sharding::optimizer, Sharding::gradients, Sharding::weights}) {
    run.sharding = sharding;
    plans.push_back(plan_of(run, {.data = 8}, 1, true));
  }
  EXPECT_LT(plans[1].largest().state.gradients, plans[0].largest().state.gradients / 4);
  EXPECT_LT(plans[2].largest().state.weights, plans[0].largest().state.weights / 2);
  EXPECT_EQ(plans[1].wire[0].gradients, 8 * plans[0].wire[0].gradients);  // in each microbatch
  EXPECT_EQ(plans[2].wire[0].weights, 16 * plans[0].wire[0].weights);     // twice in each
  EXPECT_EQ(plans[2].largest().state.optimizer, plans[0].largest().state.optimizer);
}

/// Tokens/s of `layers` layers (0: all) of a preset, whose ranks have microbatches of `rows` rows.
double predicted(const char* preset, int64_t layers, const Layout& layout, int64_t rows, bool recompute = false) {
  ModelConfig config = find_preset(preset).config;
  if (layers > 0) config.num_hidden_layers = layers;
  LayoutRun run = run_of(config, config.max_position_embeddings, rows * layout.data * layout.expert);
  run.card.product = 800e12;
  run.card.read = 4.2e12;
  return plan_of(run, layout, rows, recompute).tokens_per_second;
}

// docs/performance.md: H200 whose large product had 798 to 807 TFLOP/s; tokens/s. One rate is taken for all models.
TEST(Times, AreNearWhatStepsOfOneGpuTook) {
  EXPECT_NEAR(predicted("deepseekmoe-2b", 9, {}, 32) / 239797, 1, 0.2);
  EXPECT_NEAR(predicted("deepseekmoe-16b", 4, {}, 8) / 153697, 1, 0.2);
}

TEST(Times, AreNearWhatStepsOfSeveralGpusTook) {
  EXPECT_NEAR(predicted("deepseekmoe-2b", 9, {.data = 2}, 32) / 446369, 1, 0.2);
  EXPECT_NEAR(predicted("deepseekmoe-2b", 9, {.data = 4}, 32) / 865627, 1, 0.2);
  EXPECT_NEAR(predicted("deepseekmoe-16b", 4, {.expert = 2}, 8) / 287886, 1, 0.2);
  EXPECT_NEAR(predicted("deepseekmoe-16b", 4, {.expert = 4}, 8) / 544271, 1, 0.2);
  EXPECT_NEAR(predicted("deepseekmoe-16b", 0, {.data = 2, .expert = 2}, 16, true) / 88142, 1, 0.1);
  EXPECT_NEAR(predicted("deepseekmoe-16b", 0, {.expert = 4}, 16, true) / 80229, 1, 0.1);
}

TEST(Proposals, FitAndAreFastest) {
  const LayoutRun run = run_of(find_preset("deepseekmoe-16b").config, 4096, 256);
  LayoutPlanner planner(run);
  const std::vector<LayoutPlan> plans = plan_layouts(planner, 8, {});
  EXPECT_EQ(plans.size(), 10u);
  ASSERT_TRUE(plans[0].fits);
  for (size_t i = 1; i < plans.size(); ++i) {
    if (plans[i].fits) {
      EXPECT_GE(plans[i].time.total(), plans[i - 1].time.total());
    }
    EXPECT_LE(plans[i].fits, plans[i - 1].fits);
    EXPECT_EQ(plans[i].fits, plans[i].largest().total() <= run.card.memory);
  }
  EXPECT_THAT(reason(run, plans), testing::HasSubstr(text_of(plans[0].layout) + " is predicted to be fastest"));
}

TEST(Proposals, SayWhatIsMissing) {
  LayoutRun run = run_of(find_preset("deepseekmoe-145b").config, 4096, 256);
  LayoutPlanner planner(run);
  const std::vector<LayoutPlan> plans = plan_layouts(planner, 4, {});
  EXPECT_FALSE(plans[0].fits);
  EXPECT_THAT(reason(run, plans), testing::HasSubstr("no layout fits"));
  run.rows_per_step = 3;
  LayoutPlanner odd(run);
  EXPECT_THAT(test::error_of<UsageError>([&] { plan_layouts(odd, 4, {.layout = Layout{.data = 4}}); }),
              testing::HasSubstr("a step has 3 rows, expected a multiple of 4"));
}

}  // namespace
}  // namespace moe
