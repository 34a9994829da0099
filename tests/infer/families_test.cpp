// Checkpoints as `transformers` writes them, with what its classes compute (tests/golden/families,
// tools/make_family_golden.py). tests/train/family_gradients_test.cpp has the backward passes.

#include "tests/support/families.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/family.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/support/host_device.h"
#include "tests/support/machines.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using testing::HasSubstr;

/// By the names of the references: "hidden.0" to "hidden.L" and "logits", of the references' rows.
using Computed = std::map<std::string, std::vector<float>>;

/// What the model in a folder computes of the text of `references`.
Computed compute(const fs::path& model, const SafetensorsFile& references, DType dtype, Machine& machine) {
  const int64_t count = references.find("input.tokens")->elements();
  const LoadedModel loaded(model, dtype, *machine.device);
  Scorer scorer({loaded.model(), dtype, *machine.device, *machine.backend}, count, count);
  const std::vector<int32_t> rows = integers(references, "rows");
  Computed computed;
  const auto keep = [&](const std::string& name, int64_t width, int64_t first, int64_t n, const float* values) {
    for (const int32_t row : rows) {
      if (row < first || row >= first + n) continue;
      const float* const begin = values + (row - first) * width;
      computed[name].insert(computed[name].end(), begin, begin + width);
    }
  };
  scorer.trace(
      golden_batch(references, 1, count),
      [&](int64_t layer, const std::vector<float>& stream) {
        keep(fmt::format("hidden.{}", layer), loaded.config().hidden_size, 0, count, stream.data());
      },
      [&](int64_t first, int64_t n, const float* logits) {
        keep("logits", loaded.config().vocab_size, first, n, logits);
      });
  return computed;
}

class Families : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT(std::get<1>(GetParam()));
    machine_.emplace(std::get<1>(GetParam()));
  }
  fs::path folder() const { return family_folder(std::get<0>(GetParam())); }
  SafetensorsFile references() const { return SafetensorsFile(folder() / "references.safetensors"); }
  Computed computed(const fs::path& model, DType dtype = DType::f32) {
    return compute(model, references(), dtype, *machine_);
  }

  std::optional<Machine> machine_;
};

TEST_P(Families, EveryLayerAndLogitsAreThoseOfTransformers) {
  const SafetensorsFile expected = references();
  const Computed found = computed(folder());
  EXPECT_EQ(static_cast<int64_t>(found.size()), read_hf_config(folder()).num_hidden_layers + 2);
  for (const auto& [name, values] : found) {
    ASSERT_EQ(static_cast<int64_t>(values.size()), expected.find(name)->elements()) << name;
    EXPECT_LT(relative_error(values.data(), *expected.find(name)), 5e-6) << name;
  }
}

// In bf16 both programs differ from the exact numbers by their roundings. `transformers` rounds at least as often as
// this program does, so the norm of its difference says how large ours may be. The two are different samples of as many
// roundings: the norms of 12 rows may differ by some tenths, and half as much again is allowed. The rows of the
// embedding are rounded once, so they must be the same.
TEST_P(Families, InBf16ItRoundsNoMoreThanTransformers) {
  const SafetensorsFile expected = references();
  for (const auto& [name, values] : computed(folder(), DType::bf16)) {
    const std::vector<float> exact = floats(expected, name), rounded = floats(expected, "bf16." + name);
    ASSERT_EQ(values.size(), exact.size()) << name;
    if (name == "hidden.0") {
      EXPECT_EQ(values, rounded);
    }
    const double limit = 1.5 * distance(rounded.data(), exact);
    EXPECT_GT(limit, 0) << name;
    EXPECT_LE(distance(values.data(), exact), limit) << name;
  }
}

// The fields and tensors of a family are written as they were read; experts apart, in one file.
TEST_P(Families, WrittenAndReadAgainIsTheSameModel) {
  const test::TemporaryFolder copy;
  const ModelConfig config = read_hf_config(folder());
  const auto table = parameter_table(config);
  HostDevice host;
  std::vector<View> views;
  for (const Parameter& parameter : table) {
    const auto bytes = static_cast<size_t>(parameter.shape.elements()) * sizeof(float);
    views.emplace_back(host.allocate(bytes, parameter.name), DType::f32, parameter.shape);
  }
  load_weights(folder(), config, table, views, host);
  const Json written = to_hf_config(config, DType::f32);
  write_file(copy / "config.json", written.dump());
  save_weights(copy.path(), config, table, views, host);
  EXPECT_EQ(computed(copy.path()), computed(folder()));
  const Json given = read_json(folder() / "config.json");
  for (const char* field : {"model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size",
                            "num_key_value_heads", "rms_norm_eps", "tie_word_embeddings"}) {
    EXPECT_EQ(written[field], given[field]) << field;
  }
  EXPECT_EQ(to_hf_config(read_hf_config(copy.path()), DType::f32), written);
}

INSTANTIATE_TEST_SUITE_P(All, Families,
                         testing::Combine(testing::ValuesIn(family_names()), testing::ValuesIn(machine_kinds())),
                         [](const auto& given) { return std::get<0>(given.param) + "_" + std::get<1>(given.param); });

// `transformers` 5 has experts in one tensor, so it saves DeepSeekMoE's so, too, unless the model's class tells it
// otherwise. `deepseek_fused` has the weights of `deepseek` in that form.
TEST(FusedDeepseek, IsTheModelWithExpertsApart) {
  const fs::path apart = family_folder("deepseek"), fused = family_folder("deepseek_fused");
  const SafetensorsFile file(fused / "model.safetensors");
  ASSERT_NE(file.find("model.layers.1.mlp.experts.gate_up_proj"), nullptr);
  EXPECT_EQ(file.find("model.layers.1.mlp.experts.0.gate_proj.weight"), nullptr);
  const SafetensorsFile references(apart / "references.safetensors");
  Machine machine("cpu");
  EXPECT_EQ(compute(fused, references, DType::f32, machine), compute(apart, references, DType::f32, machine));
}

std::string refusal(const std::string& folder, const Json& changes) {
  Json json = read_json(family_folder(folder) / "config.json");
  json.update(changes);
  try {
    parse_hf_config(json, "config.json");
    return "(not refused)";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(FamilyFields, WhatIsNotComputedIsRefusedByName) {
  EXPECT_THAT(refusal("llama", {{"attention_bias", true}}), HasSubstr("attention_bias is true, expected false"));
  EXPECT_THAT(refusal("llama", {{"mlp_bias", true}}), HasSubstr("mlp_bias is true, expected false"));
  EXPECT_THAT(refusal("llama", {{"n_routed_experts", 4}}), HasSubstr("the field n_routed_experts (= 4) is not known"));
  EXPECT_THAT(refusal("llama", {{"rope_scaling", {{"rope_type", "llama3"}}}}), HasSubstr("rope_scaling"));
  EXPECT_THAT(refusal("mixtral", {{"sliding_window", 512}}), HasSubstr("sliding_window is 512, expected null or at"));
  EXPECT_THAT(refusal("mixtral", {{"norm_topk_prob", true}}), HasSubstr("the field norm_topk_prob (= true)"));
  EXPECT_THAT(refusal("mixtral", {{"num_local_experts", 1}}),
              HasSubstr("num_experts_per_tok is 2, but there are only"));
  EXPECT_THAT(refusal("mixtral", {{"architectures", {"LlamaForCausalLM"}}}), HasSubstr("architectures is"));
  EXPECT_THAT(refusal("mixtral", {{"model_type", "deepseek_v3"}}),
              HasSubstr("expected one of deepseek, llama, mixtral, qwen3_moe, olmoe, qwen2_moe"));
  EXPECT_THAT(refusal("qwen3_moe", {{"num_experts_per_tok", 1}}), HasSubstr("expected 2 or more"));
  EXPECT_THAT(refusal("qwen3_moe", {{"use_sliding_window", true}}), HasSubstr("use_sliding_window is true"));
  EXPECT_THAT(refusal("qwen3_moe", {{"mlp_only_layers", {0}}}), HasSubstr("mlp_only_layers is [0]"));
  EXPECT_THAT(refusal("olmoe", {{"clip_qkv", 8.0}}), HasSubstr("clip_qkv is 8.0, expected null"));
  EXPECT_THAT(refusal("qwen2_moe", {{"qkv_bias", false}}), HasSubstr("qkv_bias is false, expected true"));
  EXPECT_THAT(refusal("qwen2_moe", {{"layer_types", {"full_attention", "sliding_attention"}}}),
              HasSubstr("layer_types has \"sliding_attention\""));
  EXPECT_EQ(refusal("mixtral", {{"sliding_window", 600}}), "(not refused)");
  EXPECT_EQ(refusal("mixtral", {{"sliding_window", nullptr}}), "(not refused)");
}

// What changes nothing in one family changes nothing in another.
TEST(FamilyFields, WhatChangesNothingPassesInEveryFamily) {
  for (const char* folder : {"llama", "mixtral", "qwen3_moe", "olmoe", "qwen2_moe"}) {
    const int64_t head_dim = read_hf_config(family_folder(folder)).head_dim;
    for (const auto& [field, value] : std::vector<std::pair<const char*, Json>>{
             {"load_balance_coeff", 0.001},
             {"_moe_implementation", "eager"},
             {"moe_implementation", "eager"},
             {"use_grouped_mm", true},
             {"unsloth_fixed", true},
             {"unsloth_version", "2026.1"},
             {"max_window_layers", 28},
             {"head_dim", head_dim},
             {"partial_rotary_factor", 1.0},
             {"rope_scaling", {{"rope_type", "default"}}},
             {"rope_scaling", {{"type", "default"}}},
             {"rope_parameters", {{"rope_theta", 1e4}, {"rope_type", "default"}, {"partial_rotary_factor", 1.0}}},
             {"layer_types", {"full_attention", "full_attention"}}}) {
      EXPECT_EQ(refusal(folder, {{field, value}}), "(not refused)") << folder << ": " << field;
    }
    EXPECT_THAT(refusal(folder, {{"partial_rotary_factor", 0.5}}), HasSubstr("partial_rotary_factor is 0.5"));
    EXPECT_THAT(refusal(folder, {{"rope_scaling", {{"rope_type", "default"}, {"factor", 2.0}}}}),
                HasSubstr("rope_scaling: factor is 2.0, expected no such field"));
    EXPECT_THAT(refusal(folder, {{"rope_scaling", {{"type", "linear"}}}}),
                HasSubstr("rope_scaling: type is \"linear\", expected \"default\""));
    EXPECT_THAT(refusal(folder, {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}),
                HasSubstr("rope_parameters: partial_rotary_factor is 0.5, expected 1"));
    EXPECT_THAT(refusal(folder, {{"layer_types", {"full_attention", "sliding_attention"}}}),
                HasSubstr("layer_types has \"sliding_attention\""));
  }
  EXPECT_THAT(refusal("qwen2_moe", {{"head_dim", 8}}), HasSubstr("head_dim is 8, expected 6, hidden_size / num"));
  EXPECT_THAT(refusal("olmoe", {{"head_dim", 8}}), HasSubstr("head_dim is 8, expected 6, hidden_size / num"));
}

// Of absent fields the family's own class decides.
TEST(FamilyFields, AbsentFieldsHaveTheFamilysValues) {
  const Json required = {{"model_type", "mixtral"},
                         {"vocab_size", 32000},
                         {"hidden_size", 4096},
                         {"num_hidden_layers", 2},
                         {"num_attention_heads", 32}};
  const ModelConfig mixtral = parse_hf_config(required, "config.json");
  EXPECT_EQ(mixtral.num_key_value_heads, 8);
  EXPECT_EQ(mixtral.n_routed_experts, 8);
  EXPECT_EQ(mixtral.num_experts_per_tok, 2);
  EXPECT_EQ(mixtral.moe_intermediate_size, 14336);
  EXPECT_EQ(mixtral.head_dim, 128);
  EXPECT_EQ(mixtral.rms_norm_eps, 1e-5);
  EXPECT_EQ(mixtral.rope_theta, 1e6);
  EXPECT_TRUE(mixtral.norm_topk_prob);
}

// Of published configurations: harmless fields of DeepSeekMoE models.
TEST(FamilyFields, HarmlessFieldsOfPublishedModelsPass) {
  Json json = read_json(golden_folder() / "moe_basic" / "config.json");
  const int64_t experts = json["n_routed_experts"];
  json.update({{"moe_implementation", "eager"},
               {"router_aux_loss_coef", 0.01},
               {"num_local_experts", experts},
               {"qk_nope_head_dim", 0},
               {"mlp_bias", false},
               {"sliding_window", nullptr}});
  EXPECT_EQ(parse_hf_config(json, "config.json").n_routed_experts, experts);
  json["num_local_experts"] = experts + 1;
  EXPECT_THROW(parse_hf_config(json, "config.json"), Error);
  json["num_local_experts"] = experts;
  json["qk_nope_head_dim"] = 128;
  EXPECT_THROW(parse_hf_config(json, "config.json"), Error);
}

}  // namespace
}  // namespace moe
