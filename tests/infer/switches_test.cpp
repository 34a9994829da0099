// Switches of routing on a small checkpoint: which experts are chosen changes as asked, and nothing else.

#include "infer/switches.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/batch.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

using testing::HasSubstr;

// 3 layers, the first dense; 2 shared and 9 routed experts, K = 3.
fs::path folder() { return fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / "moe_basic"; }

constexpr int64_t kTokens = 40, kExperts = 9, kMoeLayers = 2;

struct Result {
  std::vector<float> logits;
  std::vector<std::vector<std::set<int64_t>>> chosen;  // [MoE layer][token]
};

Result run(const Model& model, Cpu& cpu) {
  const std::vector<int32_t> ids = random_ids(kTokens, model.config().vocab_size, 3);
  Scorer scorer({model, DType::f32, *cpu.device, *cpu.backend}, kTokens, kTokens, ChosenIds::forgotten, kTokens);
  Result result;
  scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
    result.logits.insert(result.logits.end(), values, values + rows * model.config().vocab_size);
  });
  std::vector<int32_t> group;  // each token by itself
  for (int32_t t = 0; t < kTokens; ++t) group.push_back(t);
  ChoiceCounts choices;
  scorer.losses(single_document(ids), group, kTokens, choices);
  const std::vector<int64_t>& counts = choices.chosen;
  result.chosen.assign(kMoeLayers, std::vector<std::set<int64_t>>(kTokens));
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto expert = static_cast<int64_t>(i % kExperts);
    if (counts[i] > 0) result.chosen[i / (kTokens * kExperts)][i / kExperts % kTokens].insert(expert);
  }
  return result;
}

Result run(const RoutingSwitches& switches) {
  Cpu cpu;
  const LoadedModel loaded(folder(), DType::f32, *cpu.device, switches);
  return run(loaded.model(), cpu);
}

TEST(Switches, TheModelsOwnNumbersChangeNothing) {
  const Result plain = run({}), same = run({.experts_per_token = 3});
  EXPECT_EQ(plain.logits, same.logits);
  EXPECT_EQ(plain.chosen, same.chosen);
  for (const auto& layer : plain.chosen) {
    for (const auto& token : layer) EXPECT_EQ(token.size(), 3u);
  }
}

TEST(Switches, MoreExpertsContainTheFewer) {
  const Result fewer = run({.experts_per_token = 2}), more = run({.experts_per_token = 5});
  EXPECT_NE(fewer.logits, more.logits);
  for (size_t t = 0; t < kTokens; ++t) {
    // The first MoE layer sees the same input in both.
    const auto &few = fewer.chosen[0][t], &many = more.chosen[0][t];
    EXPECT_EQ(few.size(), 2u);
    EXPECT_EQ(many.size(), 5u);
    EXPECT_TRUE(std::includes(many.begin(), many.end(), few.begin(), few.end()));
  }
}

TEST(Switches, TheBestArePassedOver) {
  const Result best = run({.experts_per_token = 2}), all = run({.experts_per_token = 5}),
               rest = run({.experts_per_token = 3, .skip = 2});
  for (size_t t = 0; t < kTokens; ++t) {
    std::set<int64_t> expected;
    std::set_difference(all.chosen[0][t].begin(), all.chosen[0][t].end(), best.chosen[0][t].begin(),
                        best.chosen[0][t].end(), std::inserter(expected, expected.begin()));
    EXPECT_EQ(rest.chosen[0][t], expected);
  }
}

TEST(Switches, MaskedExpertsAreChosenByNobodyAndOthersTakeTheirPlace) {
  const Result plain = run({});
  const Result masked = run({.masked = {{.layer = 1, .experts = {0, 4}}, {.layer = 1, .experts = {8}}}});
  int moved = 0;
  for (size_t t = 0; t < kTokens; ++t) {
    const auto& now = masked.chosen[0][t];
    EXPECT_EQ(now.size(), 3u);
    for (const int64_t expert : {0, 4, 8}) EXPECT_EQ(now.count(expert), 0u);
    for (const int64_t expert : plain.chosen[0][t]) {
      const bool is_masked = expert == 0 || expert == 4 || expert == 8;
      EXPECT_EQ(now.count(expert), is_masked ? 0u : 1u);
      moved += is_masked ? 1 : 0;
    }
  }
  EXPECT_GT(moved, 0);
  // The other layer's experts are all still used.
  std::set<int64_t> used;
  for (const auto& token : masked.chosen[1]) used.insert(token.begin(), token.end());
  EXPECT_EQ(used.size(), static_cast<size_t>(kExperts));
}

TEST(Switches, ABoostOfMinusInfinityWouldBeAMaskAndALargeOneIsAlwaysChosen) {
  const Result plain = run({}), masked = run({.masked = {{.layer = 1, .experts = {4}}}});
  const Result pushed = run({.boosted = {{.layer = 1, .expert = 4, .value = -kMostBoost}}});
  EXPECT_EQ(pushed.chosen, masked.chosen);
  EXPECT_EQ(pushed.logits, masked.logits);
  const Result pulled = run({.boosted = {{.layer = 1, .expert = 4, .value = 2}}});
  for (const auto& token : pulled.chosen[0]) {
    EXPECT_EQ(token.size(), 3u);
    EXPECT_EQ(token.count(4), 1u);
  }
  EXPECT_NE(pulled.logits, plain.logits);
  // A little changes the choice of few tokens; nothing changes none.
  const Result little = run({.boosted = {{.layer = 1, .expert = 4, .value = 0.02}}});
  size_t before = 0, after = 0;
  for (size_t t = 0; t < kTokens; ++t) {
    before += plain.chosen[0][t].count(4);
    after += little.chosen[0][t].count(4);
    EXPECT_LE(plain.chosen[0][t].count(4), little.chosen[0][t].count(4));
  }
  EXPECT_LT(before, after);
  EXPECT_LT(after, static_cast<size_t>(kTokens));
  EXPECT_EQ(run({.boosted = {{.layer = 1, .expert = 4, .value = 0}}}).logits, plain.logits);
}

TEST(Switches, AMaskIsStrongerThanABoostAndBoostsAddUp) {
  const Result masked = run({.masked = {{.layer = 1, .experts = {4}}}});
  const Result both =
      run({.masked = {{.layer = 1, .experts = {4}}}, .boosted = {{.layer = 1, .expert = 4, .value = 100}}});
  EXPECT_EQ(both.logits, masked.logits);
  const ExpertBoost part{.layer = 2, .expert = 7, .value = 0.125};
  EXPECT_EQ(run({.boosted = {part, part}}).logits, run({.boosted = {{.layer = 2, .expert = 7, .value = 0.25}}}).logits);
  const Json json = switches_json(read_hf_config(folder()), {.boosted = {part, part}});
  EXPECT_EQ(json.at("boosted"), Json({{"2", {{"7", 0.25}}}}));
}

/// The model with K = `top_k` whose shared experts give zero in the layers whose parameters begin with `layers`.
Result with_zeroed_shared(const std::string& layers, int64_t top_k) {
  Cpu cpu;
  ModelConfig config = read_hf_config(folder());
  const auto table = parameter_table(config);
  DeviceMemory memory(*cpu.device);
  Arena arena =
      memory.arena("weights", static_cast<size_t>(count_elements(table)) * 4 + Arena::kAlignment * table.size());
  const std::vector<View> views = push_parameters(arena, table, DType::f32);
  load_weights(folder(), config, table, views, *cpu.device);
  int zeroed = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    if (!table[i].name.starts_with(layers) || !table[i].name.ends_with("shared.down")) continue;
    cpu.backend->run(Fill{.x = views[i], .value = 0});
    ++zeroed;
  }
  EXPECT_GT(zeroed, 0);
  config.num_experts_per_tok = top_k;
  return run(Model(config, BalanceConfig{}, bind_weights(config, views)), cpu);
}

TEST(Switches, WithoutTheSharedExpertsIsTheModelWhoseSharedExpertsGiveZero) {
  const Result expected = with_zeroed_shared("layers.", 3 + 2), dropped = run({.drop_shared = true});
  EXPECT_EQ(dropped.chosen, expected.chosen);
  EXPECT_EQ(dropped.logits, expected.logits);
  EXPECT_NE(dropped.logits, run({.experts_per_token = 5}).logits);
}

TEST(Switches, SharedExpertsOfOneLayerAreLeftOutWithoutReplacement) {
  for (const int64_t layer : {1, 2}) {
    const Result expected = with_zeroed_shared(fmt::format("layers.{}.", layer), 3);
    const Result left_out = run({.without_shared = {layer}});
    EXPECT_EQ(left_out.chosen, expected.chosen) << layer;
    EXPECT_EQ(left_out.logits, expected.logits) << layer;
    EXPECT_NE(left_out.logits, run({}).logits) << layer;
  }
}

TEST(Switches, AnotherModelOverTheSameWeightsLeavesThisOneAsItIs) {
  Cpu cpu;
  const RoutingSwitches own{.skip = 1}, masked{.masked = {{.layer = 2, .experts = {0, 4}}}};
  const LoadedModel loaded(folder(), DType::f32, *cpu.device, own);
  const int64_t bytes = cpu.device->allocated_bytes();
  {
    const SwitchedModel other = loaded.with_switches(masked);
    EXPECT_EQ(run(*other.model, cpu).logits, run(masked).logits);
    EXPECT_EQ(run(loaded.model(), cpu).logits, run(own).logits);
  }
  EXPECT_EQ(cpu.device->allocated_bytes(), bytes);
}

TEST(Switches, WhatDoesNotFitTheModelIsRefused) {
  const ModelConfig config = read_hf_config(folder());
  const auto refusal = [&](const RoutingSwitches& switches) {
    return error_of<Error>([&] { switched(config, switches); });
  };
  EXPECT_THAT(refusal({.experts_per_token = 10}), HasSubstr("--experts-per-token takes 1 to 9"));
  EXPECT_THAT(refusal({.skip = 7}), HasSubstr("7 best experts to skip and 3 to choose"));
  EXPECT_THAT(refusal({.masked = {{.layer = 0, .experts = {1}}}}), HasSubstr("cannot mask experts in layer 0"));
  EXPECT_THAT(refusal({.masked = {{.layer = 3, .experts = {1}}}}),
              HasSubstr("expected a layer from 0 to 2, at least 1"));
  EXPECT_THAT(refusal({.masked = {{.layer = 1, .experts = {9}}}}), HasSubstr("expert 9 to mask in layer 1"));
  EXPECT_THAT(refusal({.masked = {{.layer = 1, .experts = {0, 1, 2, 3, 4, 5, 6}}}}), HasSubstr("leaves 2 experts"));
  EXPECT_THAT(refusal({.boosted = {{.layer = 0, .expert = 1, .value = 1}}}),
              HasSubstr("cannot boost experts in layer 0"));
  EXPECT_THAT(refusal({.boosted = {{.layer = 1, .expert = -1, .value = 1}}}),
              HasSubstr("expert -1 to boost in layer 1"));
  EXPECT_THAT(refusal({.boosted = {{.layer = 1, .expert = 1, .value = 1001}}}),
              HasSubstr("boosted by 1001, expected a number from -1000 to 1000"));
  for (const int64_t layer : {-1, 0, 3}) {
    EXPECT_EQ(refusal({.without_shared = {layer}}),
              fmt::format("layer {} has no shared experts that could be left out", layer));
  }
  ModelConfig plain = config;
  plain.n_shared_experts = 0;
  EXPECT_THAT(error_of<Error>([&] { switched(plain, {.without_shared = {1}}); }), HasSubstr("layer 1 has no shared"));
  EXPECT_THAT(error_of<Error>([&] { switched(plain, {.drop_shared = true}); }), HasSubstr("no shared experts"));
  plain.n_routed_experts = 0;
  EXPECT_THAT(error_of<Error>([&] { switched(plain, {.skip = 1}); }), HasSubstr("no routed experts"));
}

TEST(Switches, SharedExpertsGoOnlyWhereTokensCanUseRoutedOnesInExchange) {
  ModelConfig config = read_hf_config(folder());
  for (const RoutingMethod routing : {RoutingMethod::hash, RoutingMethod::stable, RoutingMethod::expert_choice}) {
    config.routing = routing;
    config.num_experts_per_tok = 1;
    config.capacity_factor = routing == RoutingMethod::expert_choice ? 1 : 0;
    EXPECT_THAT(error_of<Error>([&] { switched(config, {.drop_shared = true}); }),
                HasSubstr(fmt::format("shared experts cannot be dropped: with routing = {}", name(routing))));
  }
  config.routing = RoutingMethod::noisy_topk;
  config.capacity_factor = 0;
  EXPECT_EQ(switched(config, {.drop_shared = true}).num_experts_per_tok, 3);
}

// Of 9 experts in 3 groups a token uses 2 groups: a mask must leave K = 3 in any two that it may use.
TEST(Switches, AMaskLeavesEnoughExpertsInTheGroupsOfEveryToken) {
  ModelConfig config = read_hf_config(folder());
  config.topk_method = TopkMethod::group_limited_greedy;
  config.n_group = 3;
  config.topk_group = 2;
  const auto refusal = [&](const std::vector<int64_t>& experts) -> std::string {
    try {
      switched(config, {.masked = {{.layer = 1, .experts = experts}}});
    } catch (const Error& error) {
      return error.what();
    }
    return "(not refused)";
  };
  EXPECT_EQ(refusal({0, 1, 3}), "(not refused)") << "1, 2 and 3 are left";
  EXPECT_EQ(refusal({0, 1, 2}), "(not refused)") << "an empty group is not used while there are others";
  EXPECT_THAT(refusal({0, 1, 3, 4}), HasSubstr("leaves 2 experts for a token whose 2 groups"));
  EXPECT_EQ(refusal({0, 1, 2, 3, 4, 5}), "(not refused)") << "3 in the one group that is not empty";
}

}  // namespace
}  // namespace moe::test
