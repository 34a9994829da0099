// GGUF files that we write: the same numbers when they are read again, and llama.cpp's types and names.

#include "checkpoint/write_gguf.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/file_types.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_weights.h"
#include "model/presets.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 37;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.moe_intermediate_size = 32;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 16;
  config.n_shared_experts = 2;
  config.n_routed_experts = 5;
  config.num_experts_per_tok = 2;
  config.first_k_dense_replace = 1;
  config.rms_norm_eps = 1e-5;
  config.rope_theta = 250000;
  config.max_position_embeddings = 77;
  config.initializer_range = 0.3;
  config.eos_token_id = 3;
  return config;
}

std::vector<float> all_of(const WeightSource& source, size_t parameter) {
  std::vector<float> values(static_cast<size_t>(source.table()[parameter].shape.elements()));
  source.read(parameter, 0, static_cast<int64_t>(values.size()), values.data());
  return values;
}

class WriteGguf : public testing::Test {
 protected:
  std::vector<WrittenKind> write(const ModelConfig& config, const GgufOptions& options = {}, uint64_t seed = 4) {
    return write_gguf(path_, InitialWeights(config, seed), options, pool_);
  }

  test::TemporaryFolder folder_;
  fs::path path_ = folder_ / "model.gguf";
  ThreadPool pool_{2};
};

/// Weights whose files have a type that GGUF files lack.
class OddWeights final : public WeightSource {
 public:
  explicit OddWeights(const ModelConfig& config) : WeightSource(config) {}
  DType stored(size_t, int64_t) const override { return DType::u8; }
  StoredElement place(size_t, int64_t element) const override { return {"odd", "odd", element}; }
  void read(size_t, int64_t, int64_t count, float* values) const override { std::fill_n(values, count, 1.0f); }
  void read(size_t, int64_t, int64_t, int32_t*) const override {}
};

TEST_F(WriteGguf, ATypeThatTheFormatLacksIsRefusedWithWhatToDo) {
  ASSERT_LT(storage(DType::u8).gguf, 0);
  EXPECT_EQ(error_of<Error>([&] { write_gguf(path_, OddWeights(small_config()), {}, pool_); }),
            "token_embd.weight is u8, and a GGUF file has no such type; give --dtype f32, bf16 or f16");
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_NO_THROW(write_gguf(path_, OddWeights(small_config()), {.dtype = DType::f32}, pool_));
}

// The numbers of llama.cpp's files: 0 f32, 1 mostly f16, 32 mostly bf16.
TEST_F(WriteGguf, TheFileSaysItsType) {
  const std::map<DType, int64_t> numbers{{DType::f32, 0}, {DType::f16, 1}, {DType::bf16, 32}};
  for (const StorageType& type : kStorageTypes) {
    if (!plain_gguf_types().has(type.dtype)) continue;
    write(small_config(), {.dtype = type.dtype});
    const GgufFile file(path_);
    const auto number = numbers.find(type.dtype);
    ASSERT_EQ(file.value("general.file_type") != nullptr, number != numbers.end()) << type.name;
    if (number != numbers.end()) {
      EXPECT_EQ(file.integer("general.file_type"), number->second) << type.name;
    }
    fs::remove(path_);
  }
}

TEST_F(WriteGguf, WhatIsWrittenIsReadAgain) {
  ModelConfig tied = small_config(), dense = small_config(), normed = small_config();
  tied.tie_word_embeddings = true;
  dense.n_routed_experts = dense.n_shared_experts = dense.num_experts_per_tok = dense.first_k_dense_replace = 0;
  dense.head_dim = 8;  // heads are not as wide as the model
  normed.n_shared_experts = normed.first_k_dense_replace = 0;
  normed.norm_topk_prob = true;
  for (const ModelConfig& config : {small_config(), tied, dense, normed}) {
    write(config);
    const InitialWeights source(config, 4);
    const GgufWeights again(path_);
    ASSERT_EQ(again.table().size(), source.table().size());
    for (size_t i = 0; i < source.table().size(); ++i) {
      EXPECT_EQ(again.table()[i].name, source.table()[i].name);
      EXPECT_EQ(all_of(again, i), all_of(source, i)) << source.table()[i].name;
    }
    EXPECT_EQ(again.config().num_experts_per_tok, config.num_experts_per_tok);
    EXPECT_EQ(again.config().n_shared_experts, config.n_shared_experts);
    EXPECT_EQ(again.config().first_k_dense_replace, config.first_k_dense_replace);
    EXPECT_EQ(again.config().norm_topk_prob, config.norm_topk_prob);
    EXPECT_EQ(again.config().head_dim, config.head_dim);
    EXPECT_EQ(again.config().rms_norm_eps, config.rms_norm_eps);
    EXPECT_EQ(again.config().rope_theta, config.rope_theta);
    EXPECT_EQ(again.config().max_position_embeddings, config.max_position_embeddings);
    EXPECT_EQ(again.config().tie_word_embeddings, config.tie_word_embeddings);
    EXPECT_EQ(again.config().vocab_size, config.vocab_size);
    EXPECT_EQ(again.config().eos_token_id, config.eos_token_id);
    fs::remove(path_);
  }
}

TEST_F(WriteGguf, FamiliesWithNormsOrBiasesAreReadAgain) {
  ModelConfig qwen3 = small_config();
  qwen3.n_shared_experts = qwen3.first_k_dense_replace = 0;
  ModelConfig olmoe = qwen3, qwen2 = qwen3;
  qwen3.family = "qwen3_moe";
  qwen3.qk_norm = QkNorm::each_head;
  qwen3.norm_topk_prob = true;
  qwen3.head_dim = 8;
  olmoe.family = "olmoe";
  olmoe.qk_norm = QkNorm::all_heads;
  olmoe.num_key_value_heads = olmoe.num_attention_heads;
  qwen2.family = "qwen2_moe";
  qwen2.qkv_bias = qwen2.gated_shared_expert = true;
  qwen2.n_shared_experts = 1;
  qwen2.shared_expert_intermediate_size = 48;
  for (const ModelConfig& config : {qwen3, olmoe, qwen2}) {
    write(config);
    const InitialWeights source(config, 4);
    const GgufWeights again(path_);
    EXPECT_EQ(again.config().family, config.family);
    EXPECT_EQ(again.config().qk_norm, config.qk_norm);
    EXPECT_EQ(again.config().norm_topk_prob, config.norm_topk_prob);
    EXPECT_EQ(again.config().head_dim, config.head_dim);
    EXPECT_EQ(again.config().shared_width(), config.shared_width());
    EXPECT_EQ(again.config().moe_intermediate_size, config.moe_intermediate_size);
    ASSERT_EQ(again.table().size(), source.table().size());
    for (size_t i = 0; i < source.table().size(); ++i) {
      EXPECT_EQ(all_of(again, i), all_of(source, i)) << source.table()[i].name;
    }
    fs::remove(path_);
  }
  const auto refusal = [](ModelConfig config, const std::function<void(ModelConfig&)>& change) {
    change(config);
    return error_of<Error>([&] { gguf_architecture(config); });
  };
  EXPECT_THAT(refusal(qwen3, [](auto& c) { c.norm_topk_prob = false; }), HasSubstr("norm_topk_prob is false"));
  EXPECT_THAT(refusal(olmoe, [](auto& c) { c.norm_topk_prob = true; }), HasSubstr("norm_topk_prob is true"));
  EXPECT_THAT(refusal(olmoe, [](auto& c) { c.num_key_value_heads = 2; }), HasSubstr("num_key_value_heads is 2"));
  EXPECT_THAT(refusal(qwen2, [](auto& c) { c.tie_word_embeddings = true; }), HasSubstr("tie_word_embeddings is true"));
}

TEST_F(WriteGguf, NormsAndRoutersStayF32) {
  const GgufOptions bf16{.dtype = DType::bf16}, blocks{.quantization = find_quantization("q8_0")};
  for (const GgufOptions& options : {bf16, blocks}) {
    double errors = 0;
    for (const WrittenKind& kind : write(small_config(), options)) {
      const bool exact = kind.kind == ParameterKind::norm || kind.kind == ParameterKind::router;
      EXPECT_EQ(kind.dtype == DType::f32, exact) << name(kind.kind);
      EXPECT_EQ(kind.relative_error() == 0, exact) << name(kind.kind);
      errors += kind.relative_error();
    }
    EXPECT_GT(errors, 0);
    fs::remove(path_);
  }
}

TEST_F(WriteGguf, AnyNumberOfThreadsGivesTheSameFile) {
  write(small_config(), {.quantization = find_quantization("q5_1")});
  const std::string two = read_file(path_);
  ThreadPool one(1);
  const fs::path other = folder_ / "other.gguf";
  write_gguf(other, InitialWeights(small_config(), 4), {.quantization = find_quantization("q5_1")}, one);
  EXPECT_EQ(read_file(other), two);
}

TEST_F(WriteGguf, TheMixtureOfDeepseekMoe16b) {
  const ModelConfig& config = find_preset("deepseekmoe-16b").config;
  std::map<DType, int64_t> tensors;
  for (const GgufName& name : gguf_names(config, parameter_table(config))) {
    ++tensors[gguf_type_of(*find_quantization("q4_k_m"), name, config)];
  }
  // 1408 and 10944 are no multiples of 256: their down projections are q5_0 and, in layers with more bits, q8_0.
  EXPECT_EQ(tensors.size(), 5u);
  for (const DType dtype : {DType::f32, DType::q4_k, DType::q5_0, DType::q6_k, DType::q8_0}) {
    EXPECT_GT(tensors[dtype], 0) << name(dtype);
  }
}

TEST_F(WriteGguf, WhatTheFormatCannotSayIsRefusedByName) {
  const auto refusal = [](const std::function<void(ModelConfig&)>& change) {
    ModelConfig config = small_config();
    change(config);
    return error_of<Error>([&] { gguf_architecture(config); });
  };
  EXPECT_EQ(gguf_architecture(small_config()), "deepseek");
  EXPECT_THAT(refusal([](auto& c) { c.norm_topk_prob = true; }), HasSubstr("norm_topk_prob is true"));
  EXPECT_THAT(refusal([](auto& c) { c.moe_layer_freq = 2; }), HasSubstr("moe_layer_freq is 2, expected 1"));
  EXPECT_THAT(refusal([](auto& c) { c.head_dim = 32; }), HasSubstr("4 heads of 32 are not as wide as the model, 64"));
  EXPECT_THAT(refusal([](auto& c) { c.n_shared_experts = 0; }), HasSubstr("without shared experts"));
  EXPECT_THAT(refusal([](auto& c) { c.scoring_func = Scoring::sigmoid; }), HasSubstr("scoring_func is \"sigmoid\""));
  EXPECT_THAT(refusal([](auto& c) { c.routing = RoutingMethod::hash; }), HasSubstr("routing is \"hash\""));
  EXPECT_THAT(refusal([](auto& c) { c.topk_method = TopkMethod::noaux_tc; }), HasSubstr("topk_method is \"noaux_tc\""));
  EXPECT_THAT(refusal([](auto& c) { c.eval_capacity_factor = 2; }), HasSubstr("eval_capacity_factor is 2"));
  EXPECT_THAT(refusal([](auto& c) {
                c.n_shared_experts = 0;
                c.norm_topk_prob = true;
              }),
              HasSubstr("some layers are dense"));
}

}  // namespace
}  // namespace moe
