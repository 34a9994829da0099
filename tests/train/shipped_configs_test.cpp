// The run files under configs/ can be read, and the demo's model is one that other programs compute too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "train/read_run_config.h"
#include "train/run_config.h"

namespace moe {
namespace {

RunConfig shipped(const fs::path& path, const RunStart& start = {}) {
  Settings settings = Settings::load(path);
  const auto rows = [](const DataConfig&, uint64_t) { return int64_t{1000}; };
  return read_run_config(
      settings, [](const std::string&) { return int64_t{4096}; }, rows, start);
}

TEST(ShippedConfigs, AllAreRead) {
  int files = 0;
  RunConfig model = shipped(fs::path(MOE_SOURCE_DIR) / "configs/deepseekmoe-16b.toml");
  model.from = "model";  // stands for the models that files begin with, which are not here
  for (const auto& entry : fs::directory_iterator(fs::path(MOE_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    EXPECT_NO_THROW(shipped(entry.path(), {.like = &model})) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 5);
}

TEST(ShippedConfigs, TheChatModelsRecipeIsThePapers) {
  const RunConfig run = shipped(fs::path(MOE_SOURCE_DIR) / "configs/sft-16b-chat.toml");
  EXPECT_EQ(run.schedule.kind, ScheduleKind::constant);
  EXPECT_EQ(run.schedule.rate(1), 1e-5);
  EXPECT_EQ(run.schedule.rate(run.schedule.steps), 1e-5);
  EXPECT_EQ(run.data.sequence_length, 4096);
  EXPECT_EQ(run.data.rows_per_step, 1024);
  EXPECT_FLOAT_EQ(run.step.balance.alpha_expert, 0.001f);
  EXPECT_EQ(run.step.optimizer.beta2, 0.95);
  EXPECT_EQ(run.step.optimizer.weight_decay, 0.1);
  EXPECT_EQ(run.step.optimizer.clip, 1.0);
}

TEST(ShippedConfigs, TheDemosModelIsOneOfDeepseekForCausalLM) {
  const RunConfig run = shipped(fs::path(MOE_SOURCE_DIR) / "configs/demo.toml");
  EXPECT_EQ(to_hf_config(run.model, DType::f32)["architectures"], Json::array({"DeepseekForCausalLM"}));
  EXPECT_EQ(run.model.scoring_func, Scoring::softmax);
  EXPECT_FALSE(run.model.norm_topk_prob);
  EXPECT_FALSE(run.model.has_router_bias());
  EXPECT_GT(run.model.n_shared_experts, 0);
  EXPECT_GT(run.model.n_routed_experts, 16);
}

}  // namespace
}  // namespace moe
