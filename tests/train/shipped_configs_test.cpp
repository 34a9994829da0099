// The run files under configs/ can be read, and the demo's model is one that other programs compute too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/hf_config.h"
#include "nn/head.h"
#include "train/read_run_config.h"
#include "train/run_config.h"
#include "train/run_memory.h"
#include "train/settle.h"

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

/// The run of a file on DeepSeekMoE 16B, settled for a GPU with so many bytes, and its memory.
RunMemory planned(const std::string& name, int64_t bytes) {
  RunConfig model = shipped(fs::path(MOE_SOURCE_DIR) / "configs/deepseekmoe-16b.toml");
  model.from = "model";
  RunConfig run = shipped(fs::path(MOE_SOURCE_DIR) / "configs" / name, {.like = &model});
  run.step.logits_per_chunk = gpu_logits_per_chunk(run.model.vocab_size);
  constexpr int64_t kWorkspace = int64_t{64} << 20;
  const Place place{
      .device = {.name = "GPU", .memory_bytes = bytes, .available_bytes = bytes, .scratch_bytes = kWorkspace}};
  settle(run, choose_microbatch(run, {}, place));
  const RunMemory memory = plan_run(run, {}, place);
  EXPECT_TRUE(fits(run, {}, memory, place)) << name << " needs " << memory.device_total();
  return memory;
}

TEST(ShippedConfigs, LoRAOn16BFits80GigabytesAndQLoRA24) {
  constexpr int64_t kGigabyte = 1000000000;
  const RunMemory lora = planned("lora-16b.toml", 80 * kGigabyte), qlora = planned("qlora-16b.toml", 24 * kGigabyte);
  // The frozen weights have 2 bytes each, and in blocks of nf4 4.5 bits; embedding and head stay plain.
  EXPECT_NEAR(static_cast<double>(lora.step.parameters), 33.1e9, 0.2e9);
  EXPECT_LT(qlora.step.parameters, 11 * kGigabyte);
  EXPECT_EQ(lora.step.gradients, qlora.step.gradients);
  EXPECT_EQ(lora.step.optimizer, qlora.step.optimizer);
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
