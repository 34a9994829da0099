#include "checkpoint/hf_config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/paths.h"
#include "checkpoint/adapter_config.h"
#include "checkpoint/family.h"
#include "model/keys.h"
#include "model/validate.h"

namespace moe {
namespace {

// Fields that are read below and that are not keys of the table (model/keys.h).
constexpr std::array kHonoured = std::to_array<std::string_view>(
    {"rope_scaling", "rope_parameters", "bos_token_id", "eos_token_id", "pad_token_id", "model_type", "architectures",
     "hidden_act", "attention_dropout", "head_dim", "partial_rotary_factor", "layer_types"});

// Fields that say nothing about the mathematics of a forward pass.
constexpr std::array kHarmless = std::to_array<std::string_view>({"auto_map",
                                                                  "torch_dtype",
                                                                  "dtype",
                                                                  "use_cache",
                                                                  "pretraining_tp",
                                                                  "transformers_version",
                                                                  "_name_or_path",
                                                                  "return_dict",
                                                                  "output_hidden_states",
                                                                  "output_attentions",
                                                                  "output_router_logits",
                                                                  "load_balance_coeff",
                                                                  "max_window_layers",
                                                                  "moe_implementation",
                                                                  "_moe_implementation",
                                                                  "router_aux_loss_coef",
                                                                  "unsloth_fixed",
                                                                  "unsloth_version",
                                                                  "use_grouped_mm",
                                                                  "ep_size",
                                                                  "id2label",
                                                                  "label2id",
                                                                  "problem_type",
                                                                  "task_specific_params",
                                                                  "tokenizer_class",
                                                                  "finetuning_task",
                                                                  "prefix",
                                                                  "chunk_size_feed_forward",
                                                                  "use_return_dict",
                                                                  "is_encoder_decoder",
                                                                  "is_decoder",
                                                                  "_attn_implementation",
                                                                  "_attn_implementation_autoset",
                                                                  "attn_implementation",
                                                                  "gradient_checkpointing",
                                                                  "license",
                                                                  "max_length",
                                                                  "min_length",
                                                                  "do_sample",
                                                                  "temperature",
                                                                  "top_p",
                                                                  "top_k",
                                                                  "use_bfloat16",
                                                                  "torchscript",
                                                                  "pruned_heads",
                                                                  "sep_token_id",
                                                                  "decoder_start_token_id"});

bool contains(std::span<const std::string_view> names, std::string_view key) {
  return std::find(names.begin(), names.end(), key) != names.end();
}

[[noreturn]] void refuse(const std::string& name, std::string_view field, const Json& value,
                         std::string_view expected) {
  fail("{}: {} is {}, expected {}; this program does not compute the other form", name, field, json_shown(value),
       expected);
}

// model_type and architecture for routing that DeepseekForCausalLM cannot express, so that other programs refuse the
// file.
const char* const kOwnType = "moe";
const char* const kOwnArchitecture = "MoeForCausalLM";

// Refuses every value that is not in `allowed`, null or absent.
void require_one_of(const Json& json, const std::string& name, std::string_view field,
                    const std::vector<Json>& allowed) {
  const Json* value = json_find(json, field, name);
  if (value == nullptr || std::find(allowed.begin(), allowed.end(), *value) != allowed.end()) return;
  refuse(name, field, *value, json_shown(allowed.front()));
}

/// The names of the key's field in the family's files, the one that is written first; empty: the family has no such
/// field.
std::vector<std::string_view> fields_of(const Family& family, const KeyInfo& row) {
  if (row.json == JsonForm::none) return {};
  if (family.fields.empty()) return {row.json_field()};
  std::vector<std::string_view> names;
  for (const FamilyField& field : family.fields) {
    if (field.ours == row.json_field()) names.push_back(field.theirs);
  }
  return names;
}

bool is_field(const Family& family, std::string_view name) {
  const auto rows = model_keys();
  return std::any_of(rows.begin(), rows.end(),
                     [&](const auto& row) { return contains(fields_of(family, row), name); }) ||
         std::any_of(family.fixed.begin(), family.fixed.end(), [&](const auto& fixed) { return fixed.name == name; }) ||
         contains(family.harmless, name);
}

void refuse_unknown_fields(const Json& json, const std::string& name, const Family& family) {
  for (const auto& [key, value] : json.items()) {
    if (is_field(family, key) || contains(kHonoured, key) || contains(kHarmless, key) || value.is_null() ||
        value == Json(false)) {
      continue;
    }
    fail(
        "{}: the field {} (= {}) is not known, so the model might be computed wrongly; remove it if it changes nothing",
        name, key, json_shown(value));
  }
}

/// `rope_scaling` and `rope_parameters` may say that nothing is scaled.
void refuse_scaling(const Json& json, const std::string& name, std::string_view field) {
  const Json* rope = json_find(json, field, name);
  if (rope == nullptr) return;
  if (!rope->is_object()) refuse(name, field, *rope, "an object or null");
  const std::string where = fmt::format("{}: {}", name, field);
  for (const char* type : {"rope_type", "type"}) require_one_of(*rope, where, type, {"default"});
  require_one_of(*rope, where, "partial_rotary_factor", {1});
  for (const auto& [key, value] : rope->items()) {
    const bool theta = key == "rope_theta" && field == "rope_parameters";  // read below
    if (theta || key == "rope_type" || key == "type" || key == "partial_rotary_factor") continue;
    refuse(where, key, value, "no such field");
  }
}

/// The value in rope_parameters, or else `theta`, that of the field beside it.
double read_rope_theta(const Json& json, const std::string& name, double theta) {
  const Json* parameters = json_find(json, "rope_parameters", name);
  return parameters == nullptr ? theta : json_number(*parameters, "rope_theta", name + ": rope_parameters", theta);
}

/// Fields that every family may have if they say what it computes anyway.
void check_repeated_fields(const Json& json, const std::string& name, const ModelConfig& config) {
  if (const Json* head = json_find(json, "head_dim", name); head != nullptr && *head != Json(config.head_dim)) {
    refuse(name, "head_dim", *head, fmt::format("{}, hidden_size / num_attention_heads", config.head_dim));
  }
  require_one_of(json, name, "partial_rotary_factor", {1});
  const Json* types = json_find(json, "layer_types", name);
  if (types == nullptr) return;
  if (!types->is_array()) refuse(name, "layer_types", *types, "a list of \"full_attention\"");
  for (const Json& type : *types) {
    if (type == Json("full_attention")) continue;
    fail("{}: layer_types has {}, expected \"full_attention\"; this program computes no windows", name,
         json_shown(type));
  }
}

std::optional<int64_t> read_token_id(const Json& json, const std::string& name, std::string_view key) {
  const Json* value = json_find(json, key, name);
  if (value == nullptr) return std::nullopt;
  const bool list = value->is_array() && !value->empty() && value->front().is_number_integer();
  const int64_t id =
      list ? json_int(Json::object({{std::string(key), value->front()}}), key, name) : json_int(json, key, name);
  if (id == -1) return std::nullopt;  // also written for "none"
  if (id < 0 || id > kMostCount) fail("{}: {} is {}, expected an id from 0 to {}", name, key, id, kMostCount);
  return id;
}

const Family& read_family(const Json& json, const std::string& name) {
  const Json* type = json_find(json, "model_type", name);
  if (type == nullptr || *type == Json(kOwnType)) return kDeepseekFamily;
  std::vector<std::string> known;
  for (const Family* family : families()) {
    if (*type == Json(family->model_type)) return *family;
    known.push_back(family->model_type);
  }
  refuse(name, "model_type", *type, fmt::format("one of {}", fmt::join(known, ", ")));
}

void check_fixed_fields(const Json& json, const std::string& name, const Family& family) {
  std::vector<Json> architectures = {Json::array({family.architecture})};
  if (&family == &kDeepseekFamily) architectures.push_back(Json::array({kOwnArchitecture}));
  require_one_of(json, name, "architectures", architectures);
  require_one_of(json, name, "hidden_act", {"silu", "swish"});
  require_one_of(json, name, "attention_dropout", {0.0, 0});
  for (const FixedField& field : family.fixed) {
    require_one_of(json, name, field.name, parse_json(field.values, field.name).get<std::vector<Json>>());
  }
}

/// The field's value, of the row's kind; nothing if it is absent or null.
std::optional<SettingValue> read_field(const Json& json, const std::string& name, const KeyRow<ModelConfig>& row,
                                       std::string_view field) {
  const Json* found = json_find(json, field, name);
  if (found == nullptr && row.json != JsonForm::required) return std::nullopt;
  switch (row.kind) {
    case KeyKind::integer:
      return json_int(json, field, name);
    case KeyKind::number:
      return json_number(json, field, name);
    case KeyKind::boolean:
      return json_bool(json, field, name);
    case KeyKind::word:
      if (!found->is_string() || !takes(row, found->get<std::string>())) {
        refuse(name, field, *found, expected_values(row));
      }
      return found->get<std::string>();
    case KeyKind::text:
    case KeyKind::texts:
    case KeyKind::integers:
      break;
  }
  fail("{}: {} is of a kind that config.json does not have", name, field);
}

void read_fields(const Json& json, const std::string& name, const Family& family, ModelConfig& config) {
  const ModelConfig before = config, none;
  for (const KeyRow<ModelConfig>& row : model_keys()) {
    const bool has_default = row.json != JsonForm::none && row.get(before) != row.get(none);  // the family's own
    if (row.json != JsonForm::none && row.derive != nullptr && !has_default) row.derive(config, before);
    std::string_view first;  // that is there
    for (const std::string_view field : fields_of(family, row)) {
      const auto value = read_field(json, name, row, field);
      if (!value) continue;
      if (!first.empty() && *value != row.get(config)) {
        fail("{}: {} is {} and {} is {}, expected the same", name, first, json_shown(json[std::string(first)]), field,
             json_shown(json[std::string(field)]));
      }
      first = field;
      row.set(config, *value);
    }
  }
}

Json to_json(const SettingValue& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

bool is_derived(const KeyRow<ModelConfig>& row, const ModelConfig& config) {
  ModelConfig derived = config;
  row.derive(derived, {});
  return row.get(derived) == row.get(config);
}

void write_field(const KeyRow<ModelConfig>& row, const ModelConfig& config, Json& json) {
  const bool routed = config.n_routed_experts > 0;
  const SettingValue value = row.get(config);
  const auto set = [&](bool present) {
    if (present) json[std::string(row.json_field())] = to_json(value);
  };
  const auto set_or_null = [&](bool present) {
    json[std::string(row.json_field())] = present ? to_json(value) : Json(nullptr);
  };
  switch (row.json) {
    case JsonForm::none:
      return;
    case JsonForm::required:
    case JsonForm::always:
      return set(true);
    case JsonForm::with_experts:
      return set_or_null(routed);
    case JsonForm::unless_zero:
      return set_or_null(value != SettingValue(int64_t{0}));
    case JsonForm::unless_derived:
      return set(!is_derived(row, config));
    case JsonForm::unless_default:
      return set(routed && value != row.get(ModelConfig()));
    case JsonForm::with_groups:
      return set(routed && config.topk_method != TopkMethod::greedy);
  }
}

/// True if DeepseekForCausalLM does not compute the model.
bool is_own(const ModelConfig& config) {
  const auto rows = model_keys();
  return config.n_routed_experts > 0 && std::any_of(rows.begin(), rows.end(), [&](const auto& row) {
           return row.own && row.get(config) != row.get(ModelConfig());
         });
}

}  // namespace

ModelConfig parse_hf_config(const Json& json, const std::string& name) {
  if (!json.is_object()) fail("{} holds {}, expected an object of fields", name, json_kind(json));
  refuse_scaling(json, name, "rope_scaling");
  refuse_scaling(json, name, "rope_parameters");
  const Family& family = read_family(json, name);
  check_fixed_fields(json, name, family);
  refuse_unknown_fields(json, name, family);
  ModelConfig config;
  config.family = family.model_type;
  family.set_defaults(config);
  read_fields(json, name, family, config);
  check_repeated_fields(json, name, config);
  if (family.check != nullptr) family.check(json, name, config);
  // The gate of a single expert is 1 in any case.
  if (&family != &kDeepseekFamily && config.norm_topk_prob && config.num_experts_per_tok == 1 &&
      config.n_routed_experts > 1) {
    fail("{}: num_experts_per_tok is 1, expected 2 or more; this program does not compute one expert with the gate 1",
         name);
  }
  config.n_group = std::max<int64_t>(config.n_group, 1);  // 0 is also written for "none"
  config.topk_group = std::max<int64_t>(config.topk_group, 1);
  config.rope_theta = read_rope_theta(json, name, config.rope_theta);
  config.bos_token_id = read_token_id(json, name, "bos_token_id");
  config.eos_token_id = read_token_id(json, name, "eos_token_id");
  config.pad_token_id = read_token_id(json, name, "pad_token_id");
  try {
    validate(config);
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  }
  return config;
}

ModelConfig read_hf_config(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  if (!is_folder(folder)) {
    fail("{} is not a folder, expected a model folder with config.json and model.safetensors", folder.string());
  }
  if (is_adapter(folder) && !path_exists(path)) {
    const std::string base = AdapterConfig(folder).base();
    fail(
        "{} is a LoRA adapter, expected a whole model; generate, chat and eval use it with its model, and `moe merge "
        "{} "
        "--lora {} --out DIR` writes the two as one model",
        folder.string(), base.empty() ? "MODEL" : base, folder.string());
  }
  return parse_hf_config(read_json(path), path.string());
}

Json to_hf_config(const ModelConfig& config, DType dtype) {
  const auto id = [](const std::optional<int64_t>& value) { return value ? Json(*value) : Json(nullptr); };
  const Family& family = family_of(config);
  const bool own = family.fields.empty() && is_own(config);
  Json json = {{"architectures", Json::array({own ? kOwnArchitecture : family.architecture})},
               {"model_type", own ? kOwnType : family.model_type},
               {"hidden_act", "silu"},
               {"use_cache", true},
               {"rope_scaling", nullptr},
               {"attention_dropout", 0.0},
               {"bos_token_id", id(config.bos_token_id)},
               {"eos_token_id", id(config.eos_token_id)},
               {"pad_token_id", id(config.pad_token_id)},
               {"torch_dtype", storage(dtype).torch}};
  for (const FixedField& field : family.fixed)
    json[std::string(field.name)] = parse_json(field.values, field.name).front();
  for (const KeyRow<ModelConfig>& row : model_keys()) {
    if (family.fields.empty()) {
      write_field(row, config, json);
    } else if (const auto fields = fields_of(family, row); !fields.empty()) {
      json[std::string(fields.front())] = to_json(row.get(config));
    }
  }
  // Some routers have no such scores.
  if (own && !config.routing_row().scoring_func) json.erase("scoring_func");
  return json;
}

}  // namespace moe
