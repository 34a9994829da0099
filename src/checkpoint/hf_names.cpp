#include "checkpoint/hf_names.h"

#include "checkpoint/family.h"

namespace moe {
namespace {

using Has = std::function<bool(const std::string&)>;

/// Divides one of our parameters into consecutive Hugging Face tensors.
class Cutter {
 public:
  Cutter(std::vector<HfTensor>& tensors, size_t parameter, std::string prefix, const Has& has)
      : tensors_(tensors), parameter_(parameter), prefix_(std::move(prefix)), has_(has) {}

  void take(const std::string& name, std::vector<int64_t> shape) {
    HfTensor tensor{prefix_ + name, std::move(shape), parameter_, offset_};
    offset_ += tensor.elements();
    tensors_.push_back(std::move(tensor));
  }
  /// The whole parameter, if the file has it under this name.
  bool takes_whole(const std::string& name, std::vector<int64_t> shape) {
    if (!has_ || !has_(prefix_ + name)) return false;
    take(name, std::move(shape));
    return true;
  }
  int64_t taken() const { return offset_; }

 private:
  std::vector<HfTensor>& tensors_;
  size_t parameter_;
  std::string prefix_;
  const Has& has_;
  int64_t offset_ = 0;
};

/// A name with an expert's number in the place of {}.
std::string of_expert(const char* name, int64_t expert) { return fmt::format(fmt::runtime(name), expert); }

void cut_experts(Cutter& cut, const ModelConfig& config, const TensorNames& names, bool down) {
  const int64_t experts = config.n_routed_experts, width = config.moe_intermediate_size, hidden = config.hidden_size;
  if (down) {
    if (cut.takes_whole(names.fused_down, {experts, hidden, width})) return;
    for (int64_t e = 0; e < experts; ++e) cut.take(of_expert(names.expert_down, e), {hidden, width});
    return;
  }
  if (cut.takes_whole(names.fused_gate_up, {experts, 2 * width, hidden})) return;
  for (int64_t e = 0; e < experts; ++e) {
    cut.take(of_expert(names.expert_gate, e), {width, hidden});
    cut.take(of_expert(names.expert_up, e), {width, hidden});
  }
}

void cut_gate_up(Cutter& cut, const std::string& prefix, int64_t width, int64_t hidden) {
  cut.take(prefix + "gate_proj.weight", {width, hidden});
  cut.take(prefix + "up_proj.weight", {width, hidden});
}

void cut_layer_parameter(Cutter& cut, const ModelConfig& config, const Parameter& parameter) {
  const std::string_view name = std::string_view(parameter.name).substr(parameter.name.find('.', 7) + 1);
  const AttentionConfig attention = config.decoder().attention;
  const TensorNames& names = family_of(config).names;
  const int64_t hidden = config.hidden_size;
  if (name == "attention.norm") {
    cut.take("input_layernorm.weight", {hidden});
  } else if (name == "attention.qkv") {
    cut.take("self_attn.q_proj.weight", {attention.q_width(), hidden});
    cut.take("self_attn.k_proj.weight", {attention.kv_width(), hidden});
    cut.take("self_attn.v_proj.weight", {attention.kv_width(), hidden});
  } else if (name == "attention.output") {
    cut.take("self_attn.o_proj.weight", {hidden, attention.q_width()});
  } else if (name == "ffn.norm") {
    cut.take("post_attention_layernorm.weight", {hidden});
  } else if (name == "ffn.gate_up") {
    cut_gate_up(cut, "mlp.", config.intermediate_size, hidden);
  } else if (name == "ffn.down") {
    cut.take("mlp.down_proj.weight", {hidden, config.intermediate_size});
  } else if (name == "router") {
    cut.take(names.router, {config.n_routed_experts, hidden});
  } else if (name == "router.bias") {
    cut.take("mlp.gate.e_score_correction_bias", {config.n_routed_experts});
  } else if (name == "router.noise") {
    cut.take("mlp.gate.noise_weight", {config.n_routed_experts, hidden});
  } else if (name == "router.table") {
    cut.take("mlp.gate.hash_table", {config.vocab_size});
  } else if (name == "router.light_embedding") {
    cut.take("mlp.gate.light_embedding", {config.vocab_size, kLightWidth});
  } else if (name == "router.light_centroids") {
    cut.take("mlp.gate.light_centroids", {config.n_routed_experts, kLightWidth});
  } else if (name == "experts.gate_up") {
    cut_experts(cut, config, names, false);
  } else if (name == "experts.down") {
    cut_experts(cut, config, names, true);
  } else if (name == "shared.gate_up") {
    cut_gate_up(cut, names.shared, config.shared_width(), hidden);
  } else if (name == "shared.down") {
    cut.take(std::string(names.shared) + "down_proj.weight", {hidden, config.shared_width()});
  }
}

}  // namespace

int64_t HfTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::vector<Parameter>& table, const Has& has) {
  std::vector<HfTensor> tensors;
  for (size_t i = 0; i < table.size(); ++i) {
    const Parameter& parameter = table[i];
    Cutter cut(tensors, i, parameter.layer < 0 ? "" : fmt::format("model.layers.{}.", parameter.layer), has);
    if (parameter.name == "embedding") {
      cut.take("model.embed_tokens.weight", {config.vocab_size, config.hidden_size});
    } else if (parameter.name == "norm") {
      cut.take("model.norm.weight", {config.hidden_size});
    } else if (parameter.name == "head") {
      cut.take("lm_head.weight", {config.vocab_size, config.hidden_size});
    } else {
      cut_layer_parameter(cut, config, parameter);
    }
    MOE_CHECK(cut.taken() == parameter.shape.elements());
  }
  return tensors;
}

}  // namespace moe
