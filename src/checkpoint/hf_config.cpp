#include "checkpoint/hf_config.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace moe {
namespace {

// Fields that are read below.
constexpr std::array kHonoured = std::to_array<std::string_view>({"vocab_size",
                                                                  "hidden_size",
                                                                  "intermediate_size",
                                                                  "moe_intermediate_size",
                                                                  "num_hidden_layers",
                                                                  "num_attention_heads",
                                                                  "num_key_value_heads",
                                                                  "head_dim",
                                                                  "n_shared_experts",
                                                                  "n_routed_experts",
                                                                  "num_experts_per_tok",
                                                                  "moe_layer_freq",
                                                                  "first_k_dense_replace",
                                                                  "norm_topk_prob",
                                                                  "tie_word_embeddings",
                                                                  "rms_norm_eps",
                                                                  "rope_theta",
                                                                  "rope_scaling",
                                                                  "rope_parameters",
                                                                  "max_position_embeddings",
                                                                  "initializer_range",
                                                                  "aux_loss_alpha",
                                                                  "seq_aux",
                                                                  "bos_token_id",
                                                                  "eos_token_id",
                                                                  "pad_token_id",
                                                                  "model_type",
                                                                  "architectures",
                                                                  "hidden_act",
                                                                  "scoring_func",
                                                                  "topk_method",
                                                                  "n_group",
                                                                  "topk_group",
                                                                  "routed_scaling_factor",
                                                                  "attention_bias",
                                                                  "attention_dropout",
                                                                  "routing",
                                                                  "router_jitter",
                                                                  "second_expert_threshold",
                                                                  "capacity_factor",
                                                                  "eval_capacity_factor"});

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

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view key) {
  return std::find(names.begin(), names.end(), key) != names.end();
}

[[noreturn]] void refuse(const std::string& name, std::string_view field, const Json& value,
                         std::string_view expected) {
  fail("{}: {} is {}, expected {}; this program does not compute the other form", name, field, value.dump(), expected);
}

// Of models that DeepseekForCausalLM does not compute: other programs must not take them for what they are not.
const char* const kOwnType = "moe";
const char* const kOwnArchitecture = "MoeForCausalLM";

// Refuses every value but those in `allowed` (and null or absent).
void require_one_of(const Json& json, const std::string& name, std::string_view field,
                    const std::vector<Json>& allowed) {
  const Json* value = json_find(json, field, name);
  if (value == nullptr || std::find(allowed.begin(), allowed.end(), *value) != allowed.end()) return;
  refuse(name, field, *value, allowed.front().dump());
}

void refuse_unknown_fields(const Json& json, const std::string& name) {
  for (const auto& [key, value] : json.items()) {
    if (contains(kHonoured, key) || contains(kHarmless, key) || value.is_null() || value == Json(false)) continue;
    fail(
        "{}: the field {} (= {}) is not known, so the model might be computed wrongly; remove it if it changes nothing",
        name, key, value.dump());
  }
}

double read_rope_theta(const Json& json, const std::string& name) {
  double theta = json_number(json, "rope_theta", name, 10000.0);
  const Json* parameters = json_find(json, "rope_parameters", name);
  if (parameters == nullptr) return theta;
  const std::string where = name + ": rope_parameters";
  for (const auto& [key, value] : parameters->items()) {
    if (key != "rope_theta" && key != "rope_type") refuse(name, "rope_parameters." + key, value, "no such field");
  }
  require_one_of(*parameters, where, "rope_type", {"default"});
  return json_number(*parameters, "rope_theta", where, theta);
}

std::optional<int64_t> read_token_id(const Json& json, const std::string& name, std::string_view key) {
  const Json* value = json_find(json, key, name);
  if (value == nullptr) return std::nullopt;
  if (value->is_array() && !value->empty() && value->front().is_number_integer()) return value->front().get<int64_t>();
  return json_int(json, key, name);
}

void check_fixed_fields(const Json& json, const std::string& name) {
  require_one_of(json, name, "model_type", {"deepseek", kOwnType});
  require_one_of(json, name, "architectures", {Json::array({"DeepseekForCausalLM"}), Json::array({kOwnArchitecture})});
  require_one_of(json, name, "hidden_act", {"silu", "swish"});
  require_one_of(json, name, "attention_bias", {false});
  require_one_of(json, name, "attention_dropout", {0.0, 0});
  require_one_of(json, name, "rope_scaling", {});
}

/// A field whose text names one of a few values.
template <class T>
T read_choice(const Json& json, const std::string& name, const char* field, T default_value,
              std::optional<T> (*from)(std::string_view), const char* expected) {
  const Json* value = json_find(json, field, name);
  if (value == nullptr) return default_value;
  const auto found = value->is_string() ? from(value->get<std::string>()) : std::nullopt;
  if (!found) refuse(name, field, *value, expected);
  return *found;
}

void read_routing(const Json& json, const std::string& name, ModelConfig& config) {
  config.routing = read_choice(json, name, "routing", RoutingMethod::topk, routing_method_from,
                               "topk, noisy_topk, hash, expert_choice or stable");
  config.scoring_func = read_choice(json, name, "scoring_func", Scoring::softmax, scoring_from, "softmax or sigmoid");
  config.topk_method = read_choice(json, name, "topk_method", TopkMethod::greedy, topk_method_from,
                                   "greedy, group_limited_greedy or noaux_tc");
  config.n_group = std::max<int64_t>(json_int(json, "n_group", name, 1), 1);  // 0 is also written for "none"
  config.topk_group = std::max<int64_t>(json_int(json, "topk_group", name, 1), 1);
  config.routed_scaling_factor = json_number(json, "routed_scaling_factor", name, 1.0);
  config.router_jitter = json_number(json, "router_jitter", name, 0.0);
  config.second_expert_threshold = json_number(json, "second_expert_threshold", name, 0.0);
  config.capacity_factor = json_number(json, "capacity_factor", name, 0.0);
  config.eval_capacity_factor = json_number(json, "eval_capacity_factor", name, 0.0);
}

/// The fields of routing that are not DeepseekForCausalLM's own, and what they make of the model.
void write_routing(const ModelConfig& config, Json& json) {
  Json fields = Json::object();
  const auto set = [&](const char* field, bool differs, const Json& value) {
    if (differs) fields[field] = value;
  };
  const ModelConfig plain;
  const bool groups = config.topk_method != TopkMethod::greedy;
  set("routing", config.routing != plain.routing, name(config.routing));
  set("scoring_func", config.scoring_func != plain.scoring_func, name(config.scoring_func));
  set("topk_method", groups, name(config.topk_method));
  set("n_group", groups, config.n_group);
  set("topk_group", groups, config.topk_group);
  set("routed_scaling_factor", config.routed_scaling_factor != 1, config.routed_scaling_factor);
  set("router_jitter", config.router_jitter != 0, config.router_jitter);
  set("second_expert_threshold", config.second_expert_threshold != 0, config.second_expert_threshold);
  set("capacity_factor", config.capacity_factor != 0, config.capacity_factor);
  set("eval_capacity_factor", config.eval_capacity_factor != 0, config.eval_capacity_factor);
  if (config.n_routed_experts == 0 || fields.empty()) return;
  const bool has_scoring = config.routing != RoutingMethod::hash && config.routing != RoutingMethod::stable;
  if (!has_scoring) json.erase("scoring_func");
  json.update(fields);
  json["model_type"] = kOwnType;
  json["architectures"] = Json::array({kOwnArchitecture});
}

}  // namespace

ModelConfig parse_hf_config(const Json& json, const std::string& name) {
  if (!json.is_object()) fail("{} holds {}, expected an object of fields", name, json_kind(json));
  if (json_find(json, "rope_scaling", name) != nullptr) {
    refuse(name, "rope_scaling", json.at("rope_scaling"), "null");
  }
  check_fixed_fields(json, name);
  refuse_unknown_fields(json, name);
  ModelConfig config;
  config.vocab_size = json_int(json, "vocab_size", name);
  config.hidden_size = json_int(json, "hidden_size", name);
  config.num_hidden_layers = json_int(json, "num_hidden_layers", name);
  config.num_attention_heads = json_int(json, "num_attention_heads", name);
  config.num_key_value_heads = json_int(json, "num_key_value_heads", name, config.num_attention_heads);
  config.intermediate_size = json_int(json, "intermediate_size", name, 0);
  config.n_routed_experts = json_int(json, "n_routed_experts", name, 0);
  config.n_shared_experts = json_int(json, "n_shared_experts", name, 0);
  config.moe_intermediate_size = json_int(json, "moe_intermediate_size", name, 0);
  config.num_experts_per_tok = json_int(json, "num_experts_per_tok", name, 0);
  config.moe_layer_freq = json_int(json, "moe_layer_freq", name, 1);
  config.first_k_dense_replace = json_int(json, "first_k_dense_replace", name, 0);
  config.norm_topk_prob = json_bool(json, "norm_topk_prob", name, false);
  read_routing(json, name, config);
  config.tie_word_embeddings = json_bool(json, "tie_word_embeddings", name, false);
  config.rms_norm_eps = json_number(json, "rms_norm_eps", name, 1e-6);
  config.rope_theta = read_rope_theta(json, name);
  config.max_position_embeddings = json_int(json, "max_position_embeddings", name, 2048);
  config.initializer_range = json_number(json, "initializer_range", name, 0.02);
  config.aux_loss_alpha = json_number(json, "aux_loss_alpha", name, 0.001);
  config.seq_aux = json_bool(json, "seq_aux", name, true);
  config.bos_token_id = read_token_id(json, name, "bos_token_id");
  config.eos_token_id = read_token_id(json, name, "eos_token_id");
  config.pad_token_id = read_token_id(json, name, "pad_token_id");
  if (config.num_attention_heads > 0) {
    const bool divides = config.hidden_size % config.num_attention_heads == 0;
    if (json_find(json, "head_dim", name) == nullptr && !divides) {
      fail("{}: hidden_size is {}, expected a multiple of num_attention_heads, which is {} (or a head_dim field)", name,
           config.hidden_size, config.num_attention_heads);
    }
    config.head_dim = json_int(json, "head_dim", name, config.hidden_size / config.num_attention_heads);
  }
  try {
    validate(config);
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  }
  return config;
}

ModelConfig read_hf_config(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  if (!fs::is_directory(folder)) {
    fail("{} is not a folder, expected a model folder with config.json and model.safetensors", folder.string());
  }
  return parse_hf_config(read_json(path), path.string());
}

Json to_hf_config(const ModelConfig& config, DType dtype) {
  const auto or_null = [](bool present, int64_t value) { return present ? Json(value) : Json(nullptr); };
  const auto id = [](const std::optional<int64_t>& value) { return value ? Json(*value) : Json(nullptr); };
  const bool routed = config.n_routed_experts > 0;
  Json json = {{"architectures", Json::array({"DeepseekForCausalLM"})},
               {"model_type", "deepseek"},
               {"vocab_size", config.vocab_size},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"moe_intermediate_size", or_null(routed, config.moe_intermediate_size)},
               {"num_hidden_layers", config.num_hidden_layers},
               {"num_attention_heads", config.num_attention_heads},
               {"num_key_value_heads", config.num_key_value_heads},
               {"n_shared_experts", or_null(config.n_shared_experts > 0, config.n_shared_experts)},
               {"n_routed_experts", or_null(routed, config.n_routed_experts)},
               {"num_experts_per_tok", or_null(routed, config.num_experts_per_tok)},
               {"moe_layer_freq", config.moe_layer_freq},
               {"first_k_dense_replace", config.first_k_dense_replace},
               {"norm_topk_prob", config.norm_topk_prob},
               {"scoring_func", "softmax"},
               {"aux_loss_alpha", config.aux_loss_alpha},
               {"seq_aux", config.seq_aux},
               {"hidden_act", "silu"},
               {"max_position_embeddings", config.max_position_embeddings},
               {"initializer_range", config.initializer_range},
               {"rms_norm_eps", config.rms_norm_eps},
               {"use_cache", true},
               {"rope_theta", config.rope_theta},
               {"rope_scaling", nullptr},
               {"attention_bias", false},
               {"attention_dropout", 0.0},
               {"tie_word_embeddings", config.tie_word_embeddings},
               {"bos_token_id", id(config.bos_token_id)},
               {"eos_token_id", id(config.eos_token_id)},
               {"pad_token_id", id(config.pad_token_id)},
               {"torch_dtype", dtype == DType::bf16 ? "bfloat16" : "float32"}};
  if (config.head_dim * config.num_attention_heads != config.hidden_size) json["head_dim"] = config.head_dim;
  write_routing(config, json);
  return json;
}

}  // namespace moe
