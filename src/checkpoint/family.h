#pragma once
/// A family of models, as data: its spelling of the fields of config.json and of the names of tensors. Families do not
/// change, and any thread may use them. docs/add-a-family.md describes how to add one.

#include <span>
#include <string_view>

#include "formats/json.h"
#include "model/config.h"

namespace moe {

/// A field of config.json: its name in our table of keys (KeyInfo::json_field()) and in the family's files.
struct FamilyField {
  std::string_view ours, theirs;
};

/// A field that must have one of these values, or be null or absent. `values` is a JSON list.
struct FixedField {
  std::string_view name;
  const char* values;
};

/// Tensor names after "model.layers.I."; {} stands for the number of an expert.
struct TensorNames {
  const char* router = "mlp.gate.weight";
  const char* expert_gate = "mlp.experts.{}.gate_proj.weight";
  const char* expert_up = "mlp.experts.{}.up_proj.weight";
  const char* expert_down = "mlp.experts.{}.down_proj.weight";
  /// All experts of a layer in one tensor: [E, 2w, d] (gate rows, then up rows) and [E, d, w]. These are read, but
  /// never written.
  const char* fused_gate_up = "mlp.experts.gate_up_proj";
  const char* fused_down = "mlp.experts.down_proj";
  /// The router beside them, if the file has it; never written.
  const char* fused_router = "mlp.gate.weight";
  const char* shared = "mlp.shared_experts.";  ///< before gate_proj.weight, up_proj.weight, down_proj.weight
  const char* shared_gate = "mlp.shared_expert_gate.weight";
};

struct Family {
  const char* model_type;
  const char* architecture;
  /// The keys of the family; empty: every key, by our own name. Of several names for one key the first is written, all
  /// are read.
  std::span<const FamilyField> fields;
  std::span<const FixedField> fixed;
  /// Fields that change nothing in a forward pass, beyond those of all families.
  std::span<const std::string_view> harmless;
  /// Before the fields are read: sets the values that the family implies, and its defaults for absent fields.
  void (*set_defaults)(ModelConfig& config);
  /// Refuses combinations of several fields; null: no such check.
  void (*check)(const Json& json, const std::string& name, const ModelConfig& config);
  TensorNames names;
  /// PEFT adapts all experts of a layer as one parameter, because the family's class holds them so.
  bool fused_experts = false;
  /// In GGUF files the two halves of each head of q and k, which are rotated against each other, are row by row.
  bool gguf_pairs = true;
};

/// All families. The one of our own checkpoints comes first.
std::span<const Family* const> families();
/// The family of config.family.
const Family& family_of(const ModelConfig& config);

extern const Family kDeepseekFamily, kLlamaFamily, kMixtralFamily, kQwen3MoeFamily, kOlmoeFamily, kQwen2MoeFamily;

}  // namespace moe
