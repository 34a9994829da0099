// A model in a GGUF file gives the logits of the same model as a folder, bit for bit.

#include <cstring>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/batch.h"
#include "checkpoint/gguf_weights.h"
#include "checkpoint/open_model.h"
#include "checkpoint/write_model.h"
#include "formats/gguf_writer.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// Writes a DeepSeekMoE folder as llama.cpp's converter does: its names, the rows of q's and k's heads interleaved.
class GgufCopy {
 public:
  GgufCopy(const fs::path& folder, const fs::path& file) : source_(folder), config_(source_.config()) {
    for (size_t i = 0; i < source_.table().size(); ++i) {
      const Parameter& parameter = source_.table()[i];
      auto& values = parameters_[parameter.name];
      values.resize(static_cast<size_t>(parameter.shape.elements()));
      source_.read(i, 0, parameter.shape.elements(), values.data());
    }
    const int64_t hidden = config_.hidden_size, vocabulary = config_.vocab_size;
    add("token_embd.weight", {vocabulary, hidden}, parameters_["embedding"]);
    add("output_norm.weight", {hidden}, parameters_["norm"]);
    add("output.weight", {vocabulary, hidden}, parameters_["head"]);
    for (int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) add_layer(layer);
    std::vector<GgufWriter::Declaration> declarations;
    for (const auto& [name, shape, values] : tensors_) declarations.push_back({name, DType::f32, shape});
    GgufWriter writer(file, metadata(), declarations);
    for (const auto& [name, shape, values] : tensors_) writer.write(name, values.data(), values.size() * sizeof(float));
    writer.commit();
  }

 private:
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> values;
  };

  void add(const std::string& name, std::vector<int64_t> shape, std::vector<float> values) {
    tensors_.push_back({name, std::move(shape), std::move(values)});
  }

  static std::vector<float> part(const std::vector<float>& values, int64_t begin, int64_t count) {
    return {values.begin() + begin, values.begin() + begin + count};
  }

  std::vector<float> interleaved(const std::vector<float>& values, int64_t heads) const {
    const int64_t hidden = config_.hidden_size, half = config_.head_dim / 2;
    std::vector<float> result;
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < half; ++i) {
        for (const int64_t row : {head * 2 * half + i, head * 2 * half + half + i}) {
          const auto one = part(values, row * hidden, hidden);
          result.insert(result.end(), one.begin(), one.end());
        }
      }
    }
    return result;
  }

  void add_layer(int64_t layer) {
    const std::string to = fmt::format("blk.{}.", layer), from = fmt::format("layers.{}.", layer);
    const int64_t hidden = config_.hidden_size;
    const int64_t q = config_.num_attention_heads * config_.head_dim,
                  kv = config_.num_key_value_heads * config_.head_dim;
    const auto& qkv = parameters_[from + "attention.qkv"];
    add(to + "attn_norm.weight", {hidden}, parameters_[from + "attention.norm"]);
    add(to + "attn_q.weight", {q, hidden}, interleaved(part(qkv, 0, q * hidden), config_.num_attention_heads));
    add(to + "attn_k.weight", {kv, hidden},
        interleaved(part(qkv, q * hidden, kv * hidden), config_.num_key_value_heads));
    add(to + "attn_v.weight", {kv, hidden}, part(qkv, (q + kv) * hidden, kv * hidden));
    add(to + "attn_output.weight", {hidden, q}, parameters_[from + "attention.output"]);
    add(to + "ffn_norm.weight", {hidden}, parameters_[from + "ffn.norm"]);
    if (!config_.is_moe_layer(layer)) {
      return add_ffn(to, ".weight", config_.intermediate_size, from + "ffn.gate_up", from + "ffn.down");
    }
    const int64_t experts = config_.n_routed_experts, width = config_.moe_intermediate_size;
    const auto& gate_up = parameters_[from + "experts.gate_up"];
    std::vector<float> gate, up;
    for (int64_t e = 0; e < experts; ++e) {
      const auto one = part(gate_up, 2 * e * width * hidden, width * hidden);
      const auto other = part(gate_up, (2 * e + 1) * width * hidden, width * hidden);
      gate.insert(gate.end(), one.begin(), one.end());
      up.insert(up.end(), other.begin(), other.end());
    }
    add(to + "ffn_gate_inp.weight", {experts, hidden}, parameters_[from + "router"]);
    add(to + "ffn_gate_exps.weight", {experts, width, hidden}, gate);
    add(to + "ffn_up_exps.weight", {experts, width, hidden}, up);
    add(to + "ffn_down_exps.weight", {experts, hidden, width}, parameters_[from + "experts.down"]);
    add_ffn(to, "_shexp.weight", config_.shared_width(), from + "shared.gate_up", from + "shared.down");
  }

  void add_ffn(const std::string& to, const std::string& suffix, int64_t width, const std::string& gate_up,
               const std::string& down) {
    const int64_t hidden = config_.hidden_size;
    add(to + "ffn_gate" + suffix, {width, hidden}, part(parameters_[gate_up], 0, width * hidden));
    add(to + "ffn_up" + suffix, {width, hidden}, part(parameters_[gate_up], width * hidden, width * hidden));
    add(to + "ffn_down" + suffix, {hidden, width}, parameters_[down]);
  }

  std::vector<GgufEntry> metadata() const {
    const auto key = [](const char* name, int64_t value) {
      return GgufEntry{std::string("deepseek.") + name, GgufValue::u32(static_cast<uint32_t>(value))};
    };
    return {{"general.architecture", GgufValue::text("deepseek")},
            key("block_count", config_.num_hidden_layers),
            key("embedding_length", config_.hidden_size),
            key("feed_forward_length", config_.intermediate_size),
            key("attention.head_count", config_.num_attention_heads),
            key("attention.head_count_kv", config_.num_key_value_heads),
            {"deepseek.attention.layer_norm_rms_epsilon", GgufValue::f32(static_cast<float>(config_.rms_norm_eps))},
            key("rope.dimension_count", config_.head_dim),
            {"deepseek.rope.freq_base", GgufValue::f32(static_cast<float>(config_.rope_theta))},
            key("context_length", config_.max_position_embeddings),
            key("leading_dense_block_count", config_.first_k_dense_replace),
            key("expert_feed_forward_length", config_.moe_intermediate_size),
            key("expert_count", config_.n_routed_experts),
            key("expert_used_count", config_.num_experts_per_tok),
            key("expert_shared_count", config_.n_shared_experts),
            {"deepseek.expert_weights_norm", GgufValue::boolean(config_.norm_topk_prob)}};
  }

  FolderWeights source_;
  ModelConfig config_;
  std::map<std::string, std::vector<float>> parameters_;
  std::vector<Tensor> tensors_;
};

std::vector<float> logits_of(const fs::path& path, DType weights) {
  Cpu cpu;
  const LoadedModel loaded(path, weights, *cpu.device);
  const std::vector<int32_t> ids = random_ids(30, loaded.config().vocab_size, 4);
  Scorer scorer({loaded.model(), loaded.dtype(), *cpu.device, *cpu.backend}, static_cast<int64_t>(ids.size()));
  std::vector<float> all;
  scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
    all.insert(all.end(), values, values + rows * loaded.config().vocab_size);
  });
  return all;
}

class GgufLogits : public testing::TestWithParam<const char*> {
 protected:
  fs::path golden_ = fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / GetParam();
  TemporaryFolder folder_;
  fs::path file_ = folder_ / "model.gguf";
};

TEST_P(GgufLogits, AreThoseOfTheFolder) {
  const GgufCopy copy(golden_, file_);
  for (const DType weights : {DType::f32, DType::bf16, DType::f16}) {
    const auto expected = logits_of(golden_, weights), found = logits_of(file_, weights);
    ASSERT_EQ(found.size(), expected.size());
    EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0) << name(weights);
  }
}

TEST_P(GgufLogits, SurviveTheWayBackToAFolder) {
  const GgufCopy copy(golden_, file_);
  ThreadPool pool(2);
  make_folder(folder_ / "again");
  write_model(folder_ / "again", *open_weights(file_), {}, pool);
  const FolderWeights expected(golden_), found(folder_ / "again");
  ASSERT_EQ(found.table().size(), expected.table().size());
  for (size_t i = 0; i < found.table().size(); ++i) {
    const int64_t elements = expected.table()[i].shape.elements();
    std::vector<float> a(static_cast<size_t>(elements)), b(a.size());
    expected.read(i, 0, elements, a.data());
    found.read(i, 0, elements, b.data());
    EXPECT_EQ(a, b) << expected.table()[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GgufLogits, testing::Values("moe_basic", "moe_k1"));

}  // namespace
}  // namespace moe::test
