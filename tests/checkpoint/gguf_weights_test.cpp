// GGUF models: the numbers of the same model as a Hugging Face folder, under llama.cpp's names and layouts.

#include "checkpoint/gguf_weights.h"

#include <functional>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/hf_config.h"
#include "formats/gguf_writer.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

/// A tensor of the file: numbers that tell where they stand.
struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype = DType::f32;

  int64_t elements() const { return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()); }
  std::vector<float> values() const {
    std::vector<float> values(static_cast<size_t>(elements()));
    const auto start = static_cast<float>(std::hash<std::string>()(name) % 97);
    for (size_t i = 0; i < values.size(); ++i) values[i] = start + static_cast<float>(i % 1009) / 64;
    return values;
  }
  std::string bytes() const {
    std::string bytes(static_cast<size_t>(bytes_of(dtype, elements())), '\0');
    storage(dtype).from_floats(values().data(), bytes.data(), elements());
    return bytes;
  }
  /// What comes back.
  std::vector<float> stored() const {
    std::vector<float> values(static_cast<size_t>(elements()));
    storage(dtype).to_floats(bytes().data(), values.data(), elements());
    return values;
  }
};

struct Model {
  std::vector<GgufEntry> metadata;
  std::vector<Tensor> tensors;

  Tensor& tensor(const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& one) { return one.name == name; });
  }
  GgufValue& value(const std::string& key) {
    return std::find_if(metadata.begin(), metadata.end(), [&](const auto& one) { return one.key == key; })->value;
  }
  void write(const fs::path& path) const {
    std::vector<GgufWriter::Declaration> declarations;
    for (const Tensor& tensor : tensors) declarations.push_back({tensor.name, tensor.dtype, tensor.shape});
    GgufWriter writer(path, metadata, declarations);
    for (const Tensor& tensor : tensors) {
      const std::string bytes = tensor.bytes();
      writer.write(tensor.name, bytes.data(), bytes.size());
    }
    writer.commit();
  }
};

constexpr int64_t kHidden = 64, kHeads = 4, kKvHeads = 2, kHead = 16, kDense = 96, kExperts = 3, kWidth = 32;

std::vector<GgufEntry> common(const std::string& architecture, uint32_t layers) {
  return {{"general.architecture", GgufValue::text(architecture)},
          {architecture + ".block_count", GgufValue::u32(layers)},
          {architecture + ".embedding_length", GgufValue::u32(kHidden)},
          {architecture + ".feed_forward_length", GgufValue::u32(kDense)},
          {architecture + ".attention.head_count", GgufValue::u32(kHeads)},
          {architecture + ".attention.head_count_kv", GgufValue::u32(kKvHeads)},
          {architecture + ".attention.layer_norm_rms_epsilon", GgufValue::f32(1e-6f)},
          {architecture + ".rope.dimension_count", GgufValue::u32(kHead)},
          {architecture + ".rope.freq_base", GgufValue::f32(500000)},
          {architecture + ".context_length", GgufValue::u32(128)},
          {"tokenizer.ggml.bos_token_id", GgufValue::u32(1)}};
}

void add_attention(std::vector<Tensor>& tensors, int layer) {
  const std::string p = fmt::format("blk.{}.", layer);
  tensors.push_back({p + "attn_norm.weight", {kHidden}});
  tensors.push_back({p + "attn_q.weight", {kHeads * kHead, kHidden}});
  tensors.push_back({p + "attn_k.weight", {kKvHeads * kHead, kHidden}});
  tensors.push_back({p + "attn_v.weight", {kKvHeads * kHead, kHidden}});
  tensors.push_back({p + "attn_output.weight", {kHidden, kHeads * kHead}});
  tensors.push_back({p + "ffn_norm.weight", {kHidden}});
}

void add_dense(std::vector<Tensor>& tensors, int layer) {
  const std::string p = fmt::format("blk.{}.", layer);
  tensors.push_back({p + "ffn_gate.weight", {kDense, kHidden}});
  tensors.push_back({p + "ffn_up.weight", {kDense, kHidden}});
  tensors.push_back({p + "ffn_down.weight", {kHidden, kDense}});
}

std::vector<Tensor> ends() {
  return {{"token_embd.weight", {11, kHidden}}, {"output_norm.weight", {kHidden}}, {"output.weight", {11, kHidden}}};
}

Model llama() {
  Model model{common("llama", 2), ends()};
  for (int layer = 0; layer < 2; ++layer) add_attention(model.tensors, layer), add_dense(model.tensors, layer);
  return model;
}

Model deepseek() {
  Model model{common("deepseek", 2), ends()};
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, uint32_t>>{{"leading_dense_block_count", 1},
                                                               {"expert_feed_forward_length", kWidth},
                                                               {"expert_count", kExperts},
                                                               {"expert_used_count", 2},
                                                               {"expert_shared_count", 2}}) {
    model.metadata.push_back({std::string("deepseek.") + key, GgufValue::u32(value)});
  }
  model.metadata.push_back({"deepseek.expert_weights_scale", GgufValue::f32(1)});
  add_attention(model.tensors, 0);
  add_dense(model.tensors, 0);
  add_attention(model.tensors, 1);
  model.tensors.push_back({"blk.1.ffn_gate_inp.weight", {kExperts, kHidden}});
  model.tensors.push_back({"blk.1.ffn_gate_exps.weight", {kExperts, kWidth, kHidden}, DType::q4_0});
  model.tensors.push_back({"blk.1.ffn_up_exps.weight", {kExperts, kWidth, kHidden}, DType::q8_0});
  model.tensors.push_back({"blk.1.ffn_down_exps.weight", {kExperts, kHidden, kWidth}, DType::q5_1});
  model.tensors.push_back({"blk.1.ffn_gate_shexp.weight", {2 * kWidth, kHidden}, DType::f16});
  model.tensors.push_back({"blk.1.ffn_up_shexp.weight", {2 * kWidth, kHidden}, DType::bf16});
  model.tensors.push_back({"blk.1.ffn_down_shexp.weight", {kHidden, 2 * kWidth}});
  return model;
}

Model qwen2_moe() {
  constexpr int64_t kShared = 48;
  Model model{common("qwen2moe", 1), ends()};
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, uint32_t>>{{"expert_feed_forward_length", kWidth},
                                                               {"expert_shared_feed_forward_length", kShared},
                                                               {"expert_count", kExperts},
                                                               {"expert_used_count", 2}}) {
    model.metadata.push_back({std::string("qwen2moe.") + key, GgufValue::u32(value)});
  }
  add_attention(model.tensors, 0);
  model.tensors.push_back({"blk.0.attn_q.bias", {kHeads * kHead}});
  model.tensors.push_back({"blk.0.attn_k.bias", {kKvHeads * kHead}});
  model.tensors.push_back({"blk.0.attn_v.bias", {kKvHeads * kHead}});
  model.tensors.push_back({"blk.0.ffn_gate_inp.weight", {kExperts, kHidden}});
  model.tensors.push_back({"blk.0.ffn_gate_exps.weight", {kExperts, kWidth, kHidden}});
  model.tensors.push_back({"blk.0.ffn_up_exps.weight", {kExperts, kWidth, kHidden}});
  model.tensors.push_back({"blk.0.ffn_down_exps.weight", {kExperts, kHidden, kWidth}});
  model.tensors.push_back({"blk.0.ffn_gate_inp_shexp.weight", {kHidden}});
  model.tensors.push_back({"blk.0.ffn_gate_shexp.weight", {kShared, kHidden}});
  model.tensors.push_back({"blk.0.ffn_up_shexp.weight", {kShared, kHidden}});
  model.tensors.push_back({"blk.0.ffn_down_shexp.weight", {kHidden, kShared}});
  return model;
}

class GgufModel : public testing::Test {
 protected:
  /// All elements of a parameter, read in pieces of `step`.
  static std::vector<float> read(const GgufWeights& source, const std::string& name, int64_t step = 1 << 20) {
    for (size_t i = 0; i < source.table().size(); ++i) {
      if (source.table()[i].name != name) continue;
      std::vector<float> values(static_cast<size_t>(source.table()[i].shape.elements()));
      const auto all = static_cast<int64_t>(values.size());
      for (int64_t at = 0; at < all; at += step) source.read(i, at, std::min(step, all - at), values.data() + at);
      return values;
    }
    ADD_FAILURE() << "there is no " << name;
    return {};
  }
  std::string refusal(const Model& model) {
    model.write(path_);
    return error_of<Error>([&] { GgufWeights source(path_); });
  }

  test::TemporaryFolder folder_;
  fs::path path_ = folder_ / "model.gguf";
};

std::vector<float> joined(std::vector<float> a, const std::vector<float>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<float> rows(const std::vector<float>& values, int64_t width, int64_t first, int64_t count) {
  return {values.begin() + first * width, values.begin() + (first + count) * width};
}

/// A head's rows in the order of the two halves that are rotated against each other.
std::vector<float> halves(const std::vector<float>& values, int64_t heads) {
  std::vector<float> result;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t part = 0; part < 2; ++part) {
      for (int64_t i = 0; i < kHead / 2; ++i) {
        result = joined(result, rows(values, kHidden, head * kHead + 2 * i + part, 1));
      }
    }
  }
  return result;
}

TEST_F(GgufModel, OfLlamaHasItsConfigAndItsTensors) {
  Model model = llama();
  model.write(path_);
  const GgufWeights source(path_);
  const ModelConfig& config = source.config();
  EXPECT_EQ(config.hidden_size, kHidden);
  EXPECT_EQ(config.head_dim, kHead);
  EXPECT_EQ(config.num_key_value_heads, kKvHeads);
  EXPECT_EQ(config.vocab_size, 11);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 500000.0);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.moe_layers(), 0);
  EXPECT_EQ(read(source, "embedding"), model.tensor("token_embd.weight").values());
  EXPECT_EQ(read(source, "norm"), model.tensor("output_norm.weight").values());
  EXPECT_EQ(read(source, "head"), model.tensor("output.weight").values());
  const auto q = halves(model.tensor("blk.1.attn_q.weight").values(), kHeads);
  const auto k = halves(model.tensor("blk.1.attn_k.weight").values(), kKvHeads);
  const auto qkv = joined(joined(q, k), model.tensor("blk.1.attn_v.weight").values());
  for (const int64_t step : {int64_t{1} << 20, int64_t{1}, int64_t{65}}) {
    EXPECT_EQ(read(source, "layers.1.attention.qkv", step), qkv) << step;
  }
  EXPECT_EQ(read(source, "layers.0.ffn.gate_up"),
            joined(model.tensor("blk.0.ffn_gate.weight").values(), model.tensor("blk.0.ffn_up.weight").values()));
  EXPECT_EQ(read(source, "layers.0.ffn.down"), model.tensor("blk.0.ffn_down.weight").values());
}

TEST_F(GgufModel, WithoutAHeadIsTied) {
  Model model = llama();
  model.tensors.erase(model.tensors.begin() + 2);
  model.write(path_);
  EXPECT_TRUE(GgufWeights(path_).config().tie_word_embeddings);
}

TEST_F(GgufModel, OfDeepseekHasItsExpertsGateBesideUp) {
  Model model = deepseek();
  model.write(path_);
  const GgufWeights source(path_);
  const ModelConfig& config = source.config();
  EXPECT_EQ(config.n_routed_experts, kExperts);
  EXPECT_EQ(config.n_shared_experts, 2);
  EXPECT_EQ(config.num_experts_per_tok, 2);
  EXPECT_EQ(config.first_k_dense_replace, 1);
  EXPECT_EQ(config.moe_intermediate_size, kWidth);
  EXPECT_FALSE(config.norm_topk_prob);
  EXPECT_EQ(config.routed_scaling_factor, 1.0);
  const auto gate = model.tensor("blk.1.ffn_gate_exps.weight").stored();
  const auto up = model.tensor("blk.1.ffn_up_exps.weight").stored();
  std::vector<float> expected;
  for (int64_t e = 0; e < kExperts; ++e) {
    expected = joined(joined(expected, rows(gate, kHidden, e * kWidth, kWidth)), rows(up, kHidden, e * kWidth, kWidth));
  }
  for (const int64_t step : {int64_t{1} << 20, int64_t{1}, int64_t{77}}) {
    EXPECT_EQ(read(source, "layers.1.experts.gate_up", step), expected) << step;
  }
  EXPECT_EQ(read(source, "layers.1.experts.down"), model.tensor("blk.1.ffn_down_exps.weight").stored());
  EXPECT_EQ(read(source, "layers.1.shared.gate_up"), joined(model.tensor("blk.1.ffn_gate_shexp.weight").stored(),
                                                            model.tensor("blk.1.ffn_up_shexp.weight").stored()));
  EXPECT_EQ(read(source, "layers.1.router"), model.tensor("blk.1.ffn_gate_inp.weight").values());
  for (size_t i = 0; i < source.table().size(); ++i) {
    if (source.table()[i].name != "layers.1.experts.gate_up") continue;
    EXPECT_EQ(source.stored(i, 0), DType::q4_0);
    EXPECT_EQ(source.stored(i, kWidth * kHidden), DType::q8_0);
  }
}

TEST_F(GgufModel, MixtralIsLlamaWithExperts) {
  Model model{common("llama", 1), ends()};
  model.metadata.push_back({"llama.expert_count", GgufValue::u32(kExperts)});
  model.metadata.push_back({"llama.expert_used_count", GgufValue::u32(2)});
  add_attention(model.tensors, 0);
  model.tensors.push_back({"blk.0.ffn_gate_inp.weight", {kExperts, kHidden}});
  model.tensors.push_back({"blk.0.ffn_gate_exps.weight", {kExperts, kDense, kHidden}});
  model.tensors.push_back({"blk.0.ffn_up_exps.weight", {kExperts, kDense, kHidden}});
  model.tensors.push_back({"blk.0.ffn_down_exps.weight", {kExperts, kHidden, kDense}});
  model.write(path_);
  const GgufWeights source(path_);
  EXPECT_TRUE(source.config().norm_topk_prob);
  EXPECT_EQ(source.config().moe_layers(), 1);
  EXPECT_EQ(read(source, "layers.0.experts.down"), model.tensor("blk.0.ffn_down_exps.weight").values());
}

// llama.cpp's converter keeps the axis of length 1 that Hugging Face files have, and its loader takes both.
TEST_F(GgufModel, AxesOfLengthOneDoNotCount) {
  for (const std::vector<int64_t>& shape : {std::vector{kHidden}, {1, kHidden}, {kHidden, 1}}) {
    Model model = qwen2_moe();
    model.tensor("blk.0.ffn_gate_inp_shexp.weight").shape = shape;
    model.tensor("blk.0.attn_norm.weight").shape = shape;
    model.write(path_);
    const GgufWeights source(path_);
    EXPECT_EQ(read(source, "layers.0.shared.gate"), model.tensor("blk.0.ffn_gate_inp_shexp.weight").values());
    EXPECT_EQ(read(source, "layers.0.attention.norm"), model.tensor("blk.0.attn_norm.weight").values());
  }
  Model model = qwen2_moe();
  model.tensor("blk.0.ffn_gate_inp_shexp.weight").shape = {2, kHidden / 2};
  EXPECT_THAT(refusal(model), HasSubstr("blk.0.ffn_gate_inp_shexp.weight is F32 [2, 32], expected [64]"));
}

TEST_F(GgufModel, KeysThatSayWhatIsComputedPass) {
  for (const Model& given : {llama(), deepseek(), qwen2_moe()}) {
    Model model = given;
    const auto architecture = std::get<std::string>(model.value("general.architecture").value);
    for (const char* key : {".expert_group_count", ".expert_group_used_count", ".expert_gating_func"}) {
      model.metadata.push_back({architecture + key, GgufValue::u32(1)});
      model.write(path_);
      EXPECT_NO_THROW(GgufWeights source(path_)) << architecture << key;
    }
    model.metadata.back().value = GgufValue::u32(2);
    EXPECT_THAT(refusal(model), HasSubstr("expert_gating_func is u32 2, expected 1 (softmax)"));
  }
}

TEST_F(GgufModel, WhatDoesNotFitIsRefusedByName) {
  Model model = llama();
  model.tensors.pop_back();
  EXPECT_THAT(refusal(model), HasSubstr("the tensor blk.1.ffn_down.weight [64, 96] is missing"));
  model = llama();
  model.tensors.push_back({"rope_freqs.weight", {8}});
  EXPECT_THAT(refusal(model), HasSubstr("rope_freqs.weight (F32 [8]) is not a tensor of the model"));
  model = llama();
  model.tensor("blk.0.attn_k.weight").shape = {kHidden, kHidden};
  EXPECT_THAT(refusal(model), HasSubstr("blk.0.attn_k.weight is F32 [64, 64], expected [32, 64]"));
  model = llama();
  model.value("general.architecture") = GgufValue::text("mamba");
  EXPECT_THAT(refusal(model), HasSubstr("general.architecture is \"mamba\", expected \"llama\", \"deepseek\""));
  model = llama();
  model.metadata.push_back({"llama.attention.clamp_kqv", GgufValue::f32(8)});
  EXPECT_THAT(refusal(model), HasSubstr("llama.attention.clamp_kqv (f32 8) is a key that this program does not know"));
  model = llama();
  model.metadata.push_back({"llama.rope.scaling.type", GgufValue::text("yarn")});
  EXPECT_THAT(refusal(model), HasSubstr("llama.rope.scaling.type is the text \"yarn\", expected none"));
  model = llama();
  model.value("llama.rope.dimension_count") = GgufValue::u32(8);
  EXPECT_THAT(refusal(model), HasSubstr("llama.rope.dimension_count is u32 8, expected 16"));
  model = deepseek();
  model.metadata.push_back({"deepseek.expert_gating_func", GgufValue::u32(2)});
  EXPECT_THAT(refusal(model), HasSubstr("deepseek.expert_gating_func is u32 2, expected 1 (softmax)"));
  model = llama();
  model.tensor("blk.0.attn_k.weight").dtype = DType::f64;
  EXPECT_THAT(refusal(model), HasSubstr("blk.0.attn_k.weight is F64 [32, 64], a type that this program does not"));
  model = llama();
  std::erase_if(model.metadata, [](const auto& entry) { return entry.key.ends_with("layer_norm_rms_epsilon"); });
  EXPECT_THAT(refusal(model), HasSubstr("the metadata has no llama.attention.layer_norm_rms_epsilon"));
}

// The names and parts of 50000 experts in each of 500 layers would take gigabytes, and the file has kilobytes.
TEST_F(GgufModel, ASmallFileCannotAskForManyNames) {
  Model model = llama();
  model.value("llama.block_count") = GgufValue::u32(500);
  model.metadata.push_back({"llama.expert_count", GgufValue::u32(50000)});
  model.metadata.push_back({"llama.expert_used_count", GgufValue::u32(2)});
  EXPECT_THAT(refusal(model), HasSubstr("parameters, and the files have"));
}

}  // namespace
}  // namespace moe
