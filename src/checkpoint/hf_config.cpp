#include "checkpoint/hf_config.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace moe {
namespace {

// Fields that are read below.
constexpr std::array kHonoured = std::to_array<std::string_view>(
    {"vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
     "num_attention_heads", "num_key_value_heads", "head_dim", "n_shared_experts", "n_routed_experts",
     "num_experts_per_tok", "moe_layer_freq", "first_k_dense_replace", "norm_topk_prob", "tie_word_embeddings",
     "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings", "initializer_range",
     "aux_loss_alpha", "seq_aux", "bos_token_id", "eos_token_id", "pad_token_id", "model_type", "architectures",
     "hidden_act", "scoring_func", "topk_method", "routed_scaling_factor", "attention_bias", "attention_dropout"});

// Fields that say nothing about the mathematics of a forward pass.
constexpr std::array kHarmless = std::to_array<std::string_view>(
    {"auto_map", "torch_dtype", "dtype", "use_cache", "pretraining_tp", "transformers_version", "_name_or_path",
     "return_dict", "output_hidden_states", "output_attentions", "output_router_logits", "ep_size", "id2label",
     "label2id", "problem_type", "task_specific_params", "tokenizer_class", "finetuning_task", "prefix",
     "chunk_size_feed_forward", "use_return_dict", "is_encoder_decoder", "is_decoder", "_attn_implementation",
     "_attn_implementation_autoset", "attn_implementation", "gradient_checkpointing", "license", "n_group", "topk_group",
     "max_length", "min_length", "do_sample", "temperature", "top_p", "top_k", "use_bfloat16", "torchscript",
     "pruned_heads", "sep_token_id", "decoder_start_token_id"});

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view key) {
  return std::find(names.begin(), names.end(), key) != names.end();
}

[[noreturn]] void refuse(const std::string& name, std::string_view field, const Json& value, std::string_view expected) {
  fail("{}: {} is {}, expected {}; this program does not compute the other form", name, field, value.dump(), expected);
}

// Refuses every value but those in `allowed` (and null or absent).
void require_one_of(const Json& json, const std::string& name, std::string_view field, const std::vector<Json>& allowed) {
  const Json* value = json_find(json, field, name);
  if (value == nullptr || std::find(allowed.begin(), allowed.end(), *value) != allowed.end()) return;
  refuse(name, field, *value, allowed.front().dump());
}

void refuse_unknown_fields(const Json& json, const std::string& name) {
  for (const auto& [key, value] : json.items()) {
    if (contains(kHonoured, key) || contains(kHarmless, key) || value.is_null() || value == Json(false)) continue;
    fail("{}: the field {} (= {}) is not known, so the model might be computed wrongly; remove it if it changes nothing",
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
  require_one_of(json, name, "model_type", {"deepseek"});
  require_one_of(json, name, "architectures", {Json::array({"DeepseekForCausalLM"})});
  require_one_of(json, name, "hidden_act", {"silu", "swish"});
  require_one_of(json, name, "scoring_func", {"softmax"});
  require_one_of(json, name, "topk_method", {"greedy"});
  require_one_of(json, name, "routed_scaling_factor", {1.0, 1});
  require_one_of(json, name, "attention_bias", {false});
  require_one_of(json, name, "attention_dropout", {0.0, 0});
  require_one_of(json, name, "n_group", {1, 0});
  require_one_of(json, name, "topk_group", {1, 0});
  require_one_of(json, name, "rope_scaling", {});
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
  return json;
}

}  // namespace moe
