// The run files under configs/ can be read, and the demo's model is one that other programs compute too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "train/read_run_config.h"
#include "train/run_config.h"

namespace moe {
namespace {

RunConfig shipped(const fs::path& path) {
  Settings settings = Settings::load(path);
  return read_run_config(settings, [](const std::string&) { return int64_t{4096}; });
}

TEST(ShippedConfigs, AllAreRead) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(MOE_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    EXPECT_NO_THROW(shipped(entry.path())) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 5);
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
