// What several ranks may do, that they begin the same run, and who owns which parameter.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"
#include "train/owners.h"
#include "train/ranks.h"

namespace moe {
namespace {

using testing::AllOf;
using testing::HasSubstr;

RunConfig run_of(int64_t rows, int64_t microbatch_rows) {
  RunConfig run;
  run.data.rows_per_step = rows;
  run.data.microbatch_rows = microbatch_rows;
  run.schedule.steps = 10;
  return run;
}

TEST(DivideAmong, GivesEachRankAsManyMicrobatches) {
  RunConfig run = run_of(24, 3);
  divide_among(run, {.rank = 1, .ranks = 4});
  EXPECT_EQ(run.step.rank, 1);
  EXPECT_EQ(run.step.ranks, 4);
  EXPECT_EQ(run.step.microbatches, 2);
  set_microbatch(run, 1, false);
  EXPECT_EQ(run.step.microbatches, 6);
}

TEST(DivideAmong, RefusesRowsThatDoNotDivide) {
  RunConfig run = run_of(24, 3);
  EXPECT_THAT(test::error_of<UsageError>([&] { divide_among(run, {.ranks = 3}); }),
              HasSubstr("data.rows_per_step is 24, expected a multiple of 9"));
  run = run_of(25, 0);
  EXPECT_THAT(test::error_of<UsageError>([&] { divide_among(run, {.ranks = 2}); }),
              HasSubstr("expected a multiple of 2"));
}

TEST(DivideAmong, RefusesWhatRanksCannotDo) {
  const auto refusal = [](const std::function<void(RunConfig&)>& change) {
    RunConfig run = run_of(8, 1);
    change(run);
    return test::error_of<UsageError>([&] { divide_among(run, {.ranks = 2}); });
  };
  EXPECT_THAT(refusal([](RunConfig& run) { run.step.parameters = TrainedPart::lora; }),
              HasSubstr("train.parameters = lora: 2 ranks cannot do this yet"));
  EXPECT_THAT(refusal([](RunConfig& run) { run.step.parameters = TrainedPart::experts; }),
              HasSubstr("train.parameters = experts"));
  EXPECT_THAT(refusal([](RunConfig& run) { run.step.objective = Objective::dpo; }), HasSubstr("train.objective = dpo"));
  EXPECT_THAT(refusal([](RunConfig& run) { run.schedule.hours = 1; }), HasSubstr("train.hours"));
}

TEST(DivideAmong, DividesTheExperts) {
  RunConfig run = run_of(24, 3);
  run.model = tiny_config();
  divide_among(run, {.rank = 3, .ranks = 4, .experts = 2});
  EXPECT_EQ(run.step.expert_ranks, 2);
  const RankLayout layout = run.step.layout();
  EXPECT_EQ(layout.member(), 1);
  EXPECT_EQ(layout.expert_group().first, 2);
  EXPECT_EQ(layout.same_experts().rank(0), 1);
  EXPECT_EQ(layout.same_experts().rank(1), 3);
  const auto table = held_table(run.model, run.step);
  const auto whole = training_table(run.model, run.step);
  for (size_t i = 0; i < table.size(); ++i) {
    const bool expert = table[i].kind == ParameterKind::routed_experts;
    EXPECT_EQ(table[i].shape[0] * (expert ? 2 : 1), whole[i].shape[0]) << table[i].name;
    EXPECT_EQ(table[i].first_expert, expert ? 3 : 0);
  }
}

TEST(DivideAmong, RefusesExpertsThatDoNotDivide) {
  const auto refusal = [](ModelConfig model, int ranks, int experts) {
    RunConfig run = run_of(24, 1);
    run.model = std::move(model);
    return test::error_of<UsageError>([&] { divide_among(run, {.ranks = ranks, .experts = experts}); });
  };
  EXPECT_THAT(refusal(tiny_config(), 4, 3),
              HasSubstr("--expert-parallel 3: there are 4 ranks, expected a multiple of 3; change --ranks"));
  EXPECT_THAT(refusal(tiny_config(), 1, 2), HasSubstr("there is 1 rank, expected a multiple of 2"));
  EXPECT_THAT(refusal(tiny_config(), 4, 4), HasSubstr("the model has 6 routed experts, expected a multiple of 4"));
  ModelConfig dense = tiny_config();
  dense.first_k_dense_replace = dense.num_hidden_layers;
  EXPECT_THAT(refusal(dense, 2, 2), HasSubstr("--expert-parallel 2: the model has no routed experts to divide"));
}

TEST(DivideAmong, DividesTheLayers) {
  RunConfig run = run_of(24, 3);
  run.model = tiny_config();
  divide_among(run, {.rank = 5, .ranks = 8, .experts = 2, .stages = 2});
  EXPECT_EQ(run.step.microbatches, 2);
  const RankLayout layout = run.step.layout();
  EXPECT_EQ(layout.stage(), 1);
  EXPECT_EQ(layout.share(), 1);
  EXPECT_EQ(layout.stage_group().first, 4);
  EXPECT_EQ(layout.stage_group().count, 4);
  EXPECT_EQ(layout.expert_group().first, 4);
  EXPECT_EQ(layout.same_experts().rank(0), 5);
  EXPECT_EQ(layout.same_experts().rank(1), 7);
  EXPECT_EQ(layout.pipeline().rank(0), 1);
  EXPECT_EQ(layout.pipeline().rank(1), 5);
  const LayerRange layers = run.step.layers(run.model);
  EXPECT_EQ(layers.begin, 2);
  EXPECT_EQ(layers.end, 3);
}

TEST(DivideAmong, RefusesLayersThatDoNotDivide) {
  const auto refusal = [](ModelConfig model, int ranks, int experts, int stages) {
    RunConfig run = run_of(24, 1);
    run.model = std::move(model);
    const RankLayout layout{.ranks = ranks, .experts = experts, .stages = stages};
    return test::error_of<UsageError>([&] { divide_among(run, layout); });
  };
  EXPECT_THAT(refusal(tiny_config(), 4, 1, 3),
              HasSubstr("--pipeline 3: there are 4 ranks, expected a multiple of 3; change --ranks or --pipeline"));
  EXPECT_THAT(refusal(tiny_config(), 1, 1, 2), HasSubstr("--pipeline 2: there is 1 rank, expected a multiple of 2"));
  EXPECT_THAT(refusal(tiny_config(), 6, 2, 2),
              HasSubstr("--pipeline 2 --expert-parallel 2: there are 6 ranks, expected a multiple of 4"));
  EXPECT_THAT(refusal(tiny_config(), 4, 1, 4),
              HasSubstr("the model has 3 layers, and each stage needs one; give at most 3"));
}

TEST(SameStart, NamesTheFirstDifference) {
  const auto thrown = test::try_on_ranks(3, [](Communicator& communicator) {
    const bool other = communicator.rank() == 2;
    check_same_start(communicator, "node",
                     {{"the program", "moe 1"}, {"the run file", other ? "a = 1\nb = 3\n" : "a = 1\nb = 2\n"}});
  });
  for (const std::exception_ptr& one : thrown) {  // all ranks say the same, none is lost
    ASSERT_TRUE(one);
    EXPECT_THAT(test::error_of<SharedError>([&] { std::rethrow_exception(one); }),
                AllOf(HasSubstr("the run file of rank 2 on node is not that of rank 0 on node"),
                      HasSubstr("\"b = 3\", expected \"b = 2\"")));
  }
  test::on_ranks(2, [](Communicator& communicator) { check_same_start(communicator, "node", {{"the program", "1"}}); });
}

TEST(SameStart, TakesTheMicrobatchOfRank0) {
  test::on_ranks(2, [](Communicator& communicator) {
    const Microbatch chosen =
        chosen_by_rank_0(communicator, {communicator.rank() == 0 ? 4 : 2, communicator.rank() == 0});
    EXPECT_EQ(chosen.rows, 4);
    EXPECT_TRUE(chosen.recompute);
  });
}

TEST(Owners, ShareEachTrainedParameterOnce) {
  const std::vector<Parameter> table = training_table(tiny_config(), StepConfig{});
  for (const int ranks : {1, 2, 4, 100}) {
    const std::vector<int> owners = owners_of(table, {.ranks = ranks});
    ASSERT_EQ(owners.size(), table.size());
    std::vector<int64_t> held(static_cast<size_t>(ranks));
    int64_t all = 0, largest = 0;
    for (size_t i = 0; i < table.size(); ++i) {
      ASSERT_GE(owners[i], 0);
      ASSERT_LT(owners[i], ranks);
      if (!table[i].trained()) {
        EXPECT_EQ(owners[i], 0);
        continue;
      }
      const int64_t elements = table[i].shape.elements();
      held[static_cast<size_t>(owners[i])] += elements;
      all += elements;
      largest = std::max(largest, elements);
    }
    // A rank never has more than its part and one more tensor.
    EXPECT_LE(*std::max_element(held.begin(), held.end()), all / ranks + largest);
  }
}

}  // namespace
}  // namespace moe
