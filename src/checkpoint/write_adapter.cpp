#include "checkpoint/write_adapter.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "checkpoint/family.h"
#include "checkpoint/hf_names.h"
#include "formats/safetensors.h"

namespace moe {
namespace {

constexpr const char* kPrefix = "base_model.model.";

/// A tensor of the file: a contiguous part of an adapter's matrix, or of all experts one.
struct Target {
  std::string name;
  std::vector<int64_t> shape;
  size_t parameter;
  int64_t offset = 0;
  bool rearranged = false;  ///< lora_B of all experts
};

bool is_fused(const ModelConfig& config, const Parameter& parameter) {
  return parameter.shape.rank() == 3 && family_of(config).fused_experts;
}

/// lora_A or lora_B of all experts of a layer. Gate and up are the inner one of the two adapters of their module.
Target fused_target(const ModelConfig& config, size_t index, const Parameter& parameter) {
  const bool gate_up = parameter.role == ParameterRole::experts_gate_up;
  const std::string name = family_of(config).names.fused_down;
  const std::string module = fmt::format("{}model.layers.{}.{}{}.", kPrefix, parameter.layer,
                                         name.substr(0, name.rfind('.')), gate_up ? ".base_layer" : "");
  const Shape& shape = parameter.shape;
  if (parameter.adapter == AdapterPart::a) {
    return {module + "lora_A.weight", {shape[0] * shape[1], shape[2]}, index};
  }
  const auto slices = std::max<int64_t>(1, static_cast<int64_t>(parameter.slices.size()));
  return {module + "lora_B.weight", {shape[1], slices * shape[2] * shape[0]}, index, 0, true};
}

std::vector<Target> targets_of(const ModelConfig& config, const std::vector<Parameter>& table) {
  std::vector<Target> targets;
  std::set<size_t> done;
  for (HfTensor& tensor : hf_tensors(config, table)) {
    const Parameter& parameter = table[tensor.parameter];
    if (parameter.adapter == AdapterPart::none) continue;
    if (!is_fused(config, parameter)) {
      targets.push_back({kPrefix + tensor.name, std::move(tensor.shape), tensor.parameter, tensor.offset});
    } else if (done.insert(tensor.parameter).second) {
      targets.push_back(fused_target(config, tensor.parameter, parameter));
    }
  }
  return targets;
}

/// [E, O, r] becomes [O, S r E]: a slice's ranks are in columns of their own, rank by rank, and 0 in the others.
std::vector<char> rearranged(const Parameter& parameter, const std::vector<char>& from, size_t element) {
  const int64_t experts = parameter.shape[0], rows = parameter.shape[1], rank = parameter.shape[2];
  std::vector<ParameterSlice> slices = parameter.slices;
  if (slices.empty()) slices = {{"", rows}};
  const int64_t width = static_cast<int64_t>(slices.size()) * rank * experts;
  std::vector<char> to(static_cast<size_t>(rows * width) * element, 0);
  int64_t row = 0, first = 0;
  for (const ParameterSlice& slice : slices) {
    for (const int64_t end = row + slice.rows; row < end; ++row) {
      for (int64_t e = 0; e < experts; ++e) {
        for (int64_t k = 0; k < rank; ++k) {
          std::memcpy(to.data() + static_cast<size_t>(row * width + (first + k) * experts + e) * element,
                      from.data() + static_cast<size_t>((e * rows + row) * rank + k) * element, element);
        }
      }
    }
    first += rank;
  }
  return to;
}

/// What follows "model.layers.I." in a module's name, or all of it.
std::string within_layer(const std::string& module) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!module.starts_with(kLayers)) return module;
  return module.substr(module.find('.', kLayers.size()) + 1);
}

Json config_json(const ModelConfig& config, const LoraConfig& lora, const std::string& base,
                 const std::vector<Parameter>& table) {
  constexpr std::string_view kA = ".lora_A.weight";
  const TensorNames& names = family_of(config).names;
  std::set<std::string> modules, parameters;
  Json ranks = Json::object(), alphas = Json::object();
  for (const HfTensor& tensor : hf_tensors(config, table)) {
    const Parameter& parameter = table[tensor.parameter];
    if (parameter.adapter != AdapterPart::a) continue;
    const bool experts = lora_target(parameter) == "experts";
    if (is_fused(config, parameter)) {
      const bool gate_up = parameter.role == ParameterRole::experts_gate_up;
      const std::string name = gate_up ? names.fused_gate_up : names.fused_down;
      parameters.insert(name);
      // As one parameter, gate and up have the ranks of both, and the same factor.
      const int64_t count = gate_up ? 2 : 1;
      if (count * lora.rank_experts != lora.rank) ranks[name] = count * lora.rank_experts;
      if (count > 1) alphas[name] = static_cast<double>(count) * lora.alpha;
      continue;
    }
    const std::string module = within_layer(tensor.name.substr(0, tensor.name.size() - kA.size()));
    modules.insert(module);
    if (experts && lora.rank_experts != lora.rank) ranks[module] = lora.rank_experts;
  }
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", base},
          {"r", lora.rank},
          {"lora_alpha", lora.alpha},
          {"lora_dropout", parameters.empty() ? lora.dropout : 0.0},  // PEFT has none for parameters
          {"target_modules", modules},
          {"target_parameters", parameters.empty() ? Json(nullptr) : Json(parameters)},
          {"rank_pattern", ranks},
          {"alpha_pattern", alphas},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"use_rslora", false},
          {"use_dora", false},
          {"init_lora_weights", true},
          {"inference_mode", true},
          {"modules_to_save", nullptr}};
}

}  // namespace

WrittenFile save_adapter(const fs::path& folder, const ModelConfig& config, const LoraConfig& lora,
                         const std::string& base, const std::vector<Parameter>& table, const std::vector<View>& views,
                         Device& device) {
  write_file(folder / kAdapterConfig, json_text(config_json(config, lora, base, table), 2) + "\n");
  const std::vector<Target> targets = targets_of(config, table);
  std::vector<SafetensorsWriter::Declaration> declarations;
  for (const Target& target : targets) {
    declarations.push_back({target.name, storage(views[target.parameter].dtype).safetensors, target.shape});
  }
  SafetensorsWriter writer(folder / kAdapterWeights, std::move(declarations));
  std::vector<char> host;
  for (const Target& target : targets) {
    const View& all = views[target.parameter];
    int64_t elements = target.rearranged ? all.elements() : 1;
    if (!target.rearranged) {
      for (const int64_t size : target.shape) elements *= size;
    }
    const View part = all.reshaped({all.elements()}).rows(target.offset, elements);
    host.resize(part.bytes());
    device.download(host.data(), part.data, host.size());
    if (target.rearranged) host = rearranged(table[target.parameter], host, size_of(all.dtype));
    writer.write(target.name, host.data(), host.size());
  }
  writer.commit();
  return {kAdapterWeights, writer.crc32()};
}

}  // namespace moe
