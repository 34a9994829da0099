#include "checkpoint/hf_names.h"

namespace moe {
namespace {

/// Cuts one of our parameters into consecutive Hugging Face tensors.
class Cutter {
 public:
  Cutter(std::vector<HfTensor>& tensors, size_t parameter, std::string prefix)
      : tensors_(tensors), parameter_(parameter), prefix_(std::move(prefix)) {}

  void take(const std::string& name, std::vector<int64_t> shape) { take_as(name + ".weight", std::move(shape)); }
  void take_as(const std::string& full_name, std::vector<int64_t> shape) {
    HfTensor tensor{prefix_ + full_name, std::move(shape), parameter_, offset_};
    offset_ += tensor.elements();
    tensors_.push_back(std::move(tensor));
  }
  int64_t taken() const { return offset_; }

 private:
  std::vector<HfTensor>& tensors_;
  size_t parameter_;
  std::string prefix_;
  int64_t offset_ = 0;
};

void cut_gate_up(Cutter& cut, const std::string& prefix, int64_t width, int64_t hidden) {
  cut.take(prefix + "gate_proj", {width, hidden});
  cut.take(prefix + "up_proj", {width, hidden});
}

void cut_layer_parameter(Cutter& cut, const ModelConfig& config, const Parameter& parameter) {
  const std::string_view name = std::string_view(parameter.name).substr(parameter.name.find('.', 7) + 1);
  const AttentionConfig attention = config.decoder().attention;
  const int64_t hidden = config.hidden_size;
  const int64_t width = config.moe_intermediate_size;
  if (name == "attention.norm") {
    cut.take("input_layernorm", {hidden});
  } else if (name == "attention.qkv") {
    cut.take("self_attn.q_proj", {attention.q_width(), hidden});
    cut.take("self_attn.k_proj", {attention.kv_width(), hidden});
    cut.take("self_attn.v_proj", {attention.kv_width(), hidden});
  } else if (name == "attention.output") {
    cut.take("self_attn.o_proj", {hidden, attention.q_width()});
  } else if (name == "ffn.norm") {
    cut.take("post_attention_layernorm", {hidden});
  } else if (name == "ffn.gate_up") {
    cut_gate_up(cut, "mlp.", config.intermediate_size, hidden);
  } else if (name == "ffn.down") {
    cut.take("mlp.down_proj", {hidden, config.intermediate_size});
  } else if (name == "router") {
    cut.take("mlp.gate", {config.n_routed_experts, hidden});
  } else if (name == "router.bias") {
    cut.take_as("mlp.gate.e_score_correction_bias", {config.n_routed_experts});
  } else if (name == "router.noise") {
    cut.take_as("mlp.gate.noise_weight", {config.n_routed_experts, hidden});
  } else if (name == "router.table") {
    cut.take_as("mlp.gate.hash_table", {config.vocab_size});
  } else if (name == "router.light_embedding") {
    cut.take_as("mlp.gate.light_embedding", {config.vocab_size, kLightWidth});
  } else if (name == "router.light_centroids") {
    cut.take_as("mlp.gate.light_centroids", {config.n_routed_experts, kLightWidth});
  } else if (name == "experts.gate_up") {
    for (int64_t e = 0; e < config.n_routed_experts; ++e) {
      cut_gate_up(cut, fmt::format("mlp.experts.{}.", e), width, hidden);
    }
  } else if (name == "experts.down") {
    for (int64_t e = 0; e < config.n_routed_experts; ++e) {
      cut.take(fmt::format("mlp.experts.{}.down_proj", e), {hidden, width});
    }
  } else if (name == "shared.gate_up") {
    cut_gate_up(cut, "mlp.shared_experts.", config.shared_width(), hidden);
  } else if (name == "shared.down") {
    cut.take("mlp.shared_experts.down_proj", {hidden, config.shared_width()});
  }
}

}  // namespace

int64_t HfTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::vector<Parameter>& table) {
  std::vector<HfTensor> tensors;
  for (size_t i = 0; i < table.size(); ++i) {
    const Parameter& parameter = table[i];
    Cutter cut(tensors, i, parameter.layer < 0 ? "" : fmt::format("model.layers.{}.", parameter.layer));
    if (parameter.name == "embedding") {
      cut.take("model.embed_tokens", {config.vocab_size, config.hidden_size});
    } else if (parameter.name == "norm") {
      cut.take("model.norm", {config.hidden_size});
    } else if (parameter.name == "head") {
      cut.take("lm_head", {config.vocab_size, config.hidden_size});
    } else {
      cut_layer_parameter(cut, config, parameter);
    }
    MOE_CHECK(cut.taken() == parameter.shape.elements());
  }
  return tensors;
}

}  // namespace moe
