// Masked experts get no token, whatever the routing method: checkpoints of tests/golden/, one per method.

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/batch.h"
#include "checkpoint/hf_config.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

using testing::HasSubstr;

constexpr int64_t kTokens = 60;

fs::path golden(const std::string& name) { return fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / name; }

/// [MoE layer][expert]: how many of the same tokens choose it.
std::vector<std::vector<int64_t>> loads(const std::string& name, const RoutingSwitches& switches) {
  Cpu cpu;
  const LoadedModel loaded(golden(name), DType::f32, *cpu.device, switches);
  const ModelConfig& config = loaded.config();
  const std::vector<int32_t> ids = random_ids(kTokens, config.vocab_size, 3);
  Scorer scorer({loaded.model(), DType::f32, *cpu.device, *cpu.backend}, kTokens);
  ChoiceCounts choices;
  scorer.losses(single_document(ids), std::vector<int32_t>(kTokens, 0), 1, choices);
  std::vector<std::vector<int64_t>> result;
  for (int64_t layer = 0; layer < config.moe_layers(); ++layer) {
    const auto begin = choices.chosen.begin() + layer * config.n_routed_experts;
    result.emplace_back(begin, begin + config.n_routed_experts);
  }
  return result;
}

class Masks : public testing::TestWithParam<const char*> {};

TEST_P(Masks, AreHonouredAndOthersTakeTheTokens) {
  const ModelConfig config = read_hf_config(golden(GetParam()));
  const auto plain = loads(GetParam(), {});
  for (int64_t layer = 0; layer < config.moe_layers(); ++layer) {
    for (int64_t masked = 0; masked < config.n_routed_experts; ++masked) {
      const int64_t place = config.first_k_dense_replace + layer;
      const auto now = loads(GetParam(), {.masked = {{.layer = place, .experts = {masked}}}});
      EXPECT_EQ(now[static_cast<size_t>(layer)][static_cast<size_t>(masked)], 0) << "layer " << place;
      int64_t before = 0, after = 0;
      for (size_t e = 0; e < now[0].size(); ++e) {
        before += plain[static_cast<size_t>(layer)][e];
        after += now[static_cast<size_t>(layer)][e];
      }
      EXPECT_EQ(after, before) << "layer " << place;
    }
  }
  int64_t most = 0;
  for (const auto& layer : plain) most = std::max(most, layer[0]);
  EXPECT_GT(most, 0) << "the mask of the first expert takes something away";
}

INSTANTIATE_TEST_SUITE_P(Methods, Masks,
                         testing::Values("moe_basic", "switch", "gshard_original", "st_moe", "noisy_topk", "stable",
                                         "mixtral", "device_limited", "loss_free_sigmoid", "loss_free_softmax"),
                         [](const auto& test) { return std::string(test.param); });

// 4 groups of 2 experts, 2 of which a token uses, and K = 3 of them: one expert may be missing, not two of two groups.
TEST(MasksOfGroups, ThatLeaveTooFewInTheGroupsOfATokenAreRefused) {
  const ModelConfig config = read_hf_config(golden("device_limited"));
  const auto masked = [&](std::vector<int64_t> experts) {
    switched(config, {.masked = {{.layer = 1, .experts = std::move(experts)}}});
  };
  masked({5});
  masked({4, 5});  // a whole group, which then nobody uses
  EXPECT_THAT(error_of<Error>([&] { masked({1, 2}); }), HasSubstr("leaves 2 experts"));
  EXPECT_THAT(error_of<Error>([&] { masked({0, 1, 2, 3, 4, 5}); }), HasSubstr("leaves 2 experts"));
}

TEST(MasksOfGroups, OfWholeGroupsAreHonoured) {
  for (const char* name : {"device_limited", "loss_free_sigmoid"}) {
    const auto now = loads(name, {.masked = {{.layer = 1, .experts = {0, 1, 6, 7}}}});
    for (const size_t expert : {0, 1, 6, 7}) EXPECT_EQ(now[0][expert], 0) << name;
  }
}

// K = 4 takes both groups whole; they are ranked by the sum of both members, so that one with a masked member is last.
TEST(MasksOfGroups, RankedBySumsNeedEnoughWholeOnes) {
  const ModelConfig config = read_hf_config(golden("loss_free_sigmoid"));
  switched(config, {.masked = {{.layer = 1, .experts = {0, 2}}}});
  EXPECT_EQ(loads("loss_free_sigmoid", {.masked = {{.layer = 1, .experts = {0, 2}}}})[0][0], 0);
  EXPECT_THAT(error_of<Error>([&] {
                switched(config, {.masked = {{.layer = 1, .experts = {0, 2, 4}}}});
              }),
              HasSubstr("experts for a token whose"));
}

}  // namespace
}  // namespace moe::test
