#include "checkpoint/hf_names.h"

#include <array>
#include <span>

#include "checkpoint/family.h"

namespace moe {
namespace {

using Has = std::function<bool(const std::string&)>;

/// Divides one of our parameters into consecutive Hugging Face tensors.
class Cutter {
 public:
  Cutter(std::vector<HfTensor>& tensors, size_t parameter, std::string prefix, AdapterPart part, const Has& has)
      : tensors_(tensors), parameter_(parameter), prefix_(std::move(prefix)), part_(part), has_(has) {}

  void take(const std::string& name, std::vector<int64_t> shape) {
    HfTensor tensor{prefix_ + name_of(name), std::move(shape), parameter_, offset_};
    offset_ += tensor.elements();
    tensors_.push_back(std::move(tensor));
  }
  bool has(const std::string& name) const { return has_ && has_(prefix_ + name); }
  int64_t taken() const { return offset_; }

 private:
  /// "q_proj.lora_A.weight" of an adapter of "q_proj.weight".
  std::string name_of(const std::string& name) const {
    if (part_ == AdapterPart::none) return name;
    constexpr std::string_view kWeight = ".weight";
    MOE_CHECK(name.ends_with(kWeight));
    return name.substr(0, name.size() - kWeight.size()) +
           (part_ == AdapterPart::a ? ".lora_A.weight" : ".lora_B.weight");
  }

  std::vector<HfTensor>& tensors_;
  size_t parameter_;
  std::string prefix_;
  AdapterPart part_;
  const Has& has_;
  int64_t offset_ = 0;
};

std::vector<int64_t> sizes_of(const Shape& shape) {
  std::vector<int64_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) sizes.push_back(shape[axis]);
  return sizes;
}

/// A name with a word or number in the place of {}.
template <class Word>
std::string with(const char* name, const Word& word) {
  return fmt::format(fmt::runtime(name), word);
}

/// One tensor for each slice; {} in `name` stands for the slice.
void cut_slices(Cutter& cut, const Parameter& parameter, const std::string& name) {
  for (const ParameterSlice& slice : parameter.slices) {
    std::vector<int64_t> shape = sizes_of(parameter.shape);
    shape.front() = slice.rows;
    cut.take(with(name.c_str(), slice.name), std::move(shape));
  }
}

/// One tensor for all experts if the file has it, else one for each expert and slice; {} in `names` stands for the
/// expert.
void cut_experts(Cutter& cut, const Parameter& parameter, const char* fused, std::span<const char* const> names) {
  if (cut.has(fused)) return cut.take(fused, sizes_of(parameter.shape));
  const std::vector<ParameterSlice> whole{{"", parameter.shape[1]}};
  const std::vector<ParameterSlice>& slices = parameter.slices.empty() ? whole : parameter.slices;
  MOE_CHECK(slices.size() == names.size());
  for (int64_t e = 0; e < parameter.shape[parameter.shard_axis]; ++e) {
    for (size_t i = 0; i < slices.size(); ++i) {
      cut.take(with(names[i], parameter.first_expert + e), {slices[i].rows, parameter.shape[2]});
    }
  }
}

void cut_parameter(Cutter& cut, const Parameter& parameter, const TensorNames& names) {
  const auto whole = [&](const std::string& name) { cut.take(name, sizes_of(parameter.shape)); };
  switch (parameter.role) {
    case ParameterRole::embedding:
      return whole("model.embed_tokens.weight");
    case ParameterRole::attention_norm:
      return whole("input_layernorm.weight");
    case ParameterRole::attention_qkv:
      return cut_slices(cut, parameter, "self_attn.{}_proj.weight");
    case ParameterRole::attention_qkv_bias:
      return cut_slices(cut, parameter, "self_attn.{}_proj.bias");
    case ParameterRole::attention_q_norm:
      return whole("self_attn.q_norm.weight");
    case ParameterRole::attention_k_norm:
      return whole("self_attn.k_norm.weight");
    case ParameterRole::attention_output:
      return whole("self_attn.o_proj.weight");
    case ParameterRole::ffn_norm:
      return whole("post_attention_layernorm.weight");
    case ParameterRole::ffn_gate_up:
      return cut_slices(cut, parameter, "mlp.{}_proj.weight");
    case ParameterRole::ffn_down:
      return whole("mlp.down_proj.weight");
    case ParameterRole::router:
      return whole(cut.has(names.fused_router) ? names.fused_router : names.router);
    case ParameterRole::router_own:
      return whole(parameter.file_name);
    case ParameterRole::experts_gate_up:
      return cut_experts(cut, parameter, names.fused_gate_up, std::array{names.expert_gate, names.expert_up});
    case ParameterRole::experts_down:
      return cut_experts(cut, parameter, names.fused_down, std::array{names.expert_down});
    case ParameterRole::shared_gate_up:
      return cut_slices(cut, parameter, std::string(names.shared) + "{}_proj.weight");
    case ParameterRole::shared_down:
      return whole(std::string(names.shared) + "down_proj.weight");
    case ParameterRole::shared_gate:
      return whole(names.shared_gate);
    case ParameterRole::final_norm:
      return whole("model.norm.weight");
    case ParameterRole::head:
      return whole("lm_head.weight");
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
  const Has no_file;  // files of adapters have names of their own for experts that are one tensor
  for (size_t i = 0; i < table.size(); ++i) {
    const Parameter& parameter = table[i];
    Cutter cut(tensors, i, parameter.layer < 0 ? "" : fmt::format("model.layers.{}.", parameter.layer),
               parameter.adapter, parameter.adapter == AdapterPart::none ? has : no_file);
    cut_parameter(cut, parameter, family_of(config).names);
    MOE_CHECK(cut.taken() == parameter.shape.elements());
  }
  return tensors;
}

}  // namespace moe
