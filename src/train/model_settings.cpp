#include "train/model_settings.h"

#include "model/methods.h"
#include "model/presets.h"
#include "train/setting_kinds.h"

namespace moe {
namespace {

/// The number that a float was written as.
double decimal(float value) { return std::stod(fmt::format("{}", value)); }

void read_routing(Settings& settings, ModelConfig& model) {
  model.norm_topk_prob = settings.get<bool>("model.norm_topk_prob", model.norm_topk_prob);
  model.routing = choice(settings, "model.routing", model.routing, routing_method_from,
                         "\"topk\", \"noisy_topk\", \"hash\", \"expert_choice\" or \"stable\"");
  model.scoring_func =
      choice(settings, "model.scoring_func", model.scoring_func, scoring_from, "\"softmax\" or \"sigmoid\"");
  model.topk_method = choice(settings, "model.topk_method", model.topk_method, topk_method_from,
                             "\"greedy\", \"group_limited_greedy\" or \"noaux_tc\"");
  model.n_group = integer(settings, "model.n_group", model.n_group, 1);
  model.topk_group = integer(settings, "model.topk_group", model.topk_group, 1);
  const auto number = [&](const char* key, double& value) {
    value = non_negative(settings, fmt::format("model.{}", key), value);
  };
  number("routed_scaling_factor", model.routed_scaling_factor);
  number("router_jitter", model.router_jitter);
  number("second_expert_threshold", model.second_expert_threshold);
  if (model.routing == RoutingMethod::expert_choice) {
    model.capacity_factor = static_cast<double>(model.num_experts_per_tok);
  }
  number("capacity_factor", model.capacity_factor);
  number("eval_capacity_factor", model.eval_capacity_factor);
}

/// Sizes that a preset gives and a file without one must give.
void read_trunk(Settings& settings, ModelConfig& model, bool preset) {
  const auto size = [&](std::string_view key, int64_t& value) {
    const std::string full = fmt::format("model.{}", key);
    value = preset ? integer(settings, full, value, 1) : required_integer(settings, full, 1);
  };
  const int64_t heads = model.num_attention_heads;
  size("hidden_size", model.hidden_size);
  size("num_hidden_layers", model.num_hidden_layers);
  size("num_attention_heads", model.num_attention_heads);
  if (model.num_attention_heads != heads) model.num_key_value_heads = model.num_attention_heads;
  model.num_key_value_heads = integer(settings, "model.num_key_value_heads", model.num_key_value_heads, 1);
  model.head_dim = integer(settings, "model.head_dim", model.hidden_size / model.num_attention_heads, 1);
}

/// The row that model.method names; null: none.
const Method* read_method(Settings& settings, RunConfig& run) {
  const auto name = settings.get<std::string>("model.method", "");
  if (name.empty()) return nullptr;
  const Method& method = find_method(name);
  if (method.routes() && run.model.n_routed_experts == 0) {
    settings.refuse("model.n_routed_experts",
                    fmt::format("the number of experts that model.method = {} chooses from", name));
  }
  method.apply(run.model, run.step.balance);
  run.balanced_hash = method.balanced_hash;
  return &method;
}

/// K, which most methods fix.
void read_top_k(Settings& settings, ModelConfig& model, const Method* method) {
  const int64_t fixed = model.num_experts_per_tok;
  model.num_experts_per_tok = integer(settings, "model.num_experts_per_tok", fixed, 0);
  if (model.n_routed_experts == 0) model.num_experts_per_tok = 0;
  if (method == nullptr || !method->fixes_top_k() || model.num_experts_per_tok == fixed) return;
  settings.refuse("model.num_experts_per_tok",
                  fmt::format("{}, which model.method = {} stands for; leave one of the two out", fixed, method->name));
}

}  // namespace

void read_model(Settings& settings, RunConfig& run, const std::function<int64_t()>& dataset_vocabulary) {
  ModelConfig& model = run.model;
  const auto preset = settings.get<std::string>("model.preset", "");
  if (!preset.empty()) model = find_preset(preset).config;
  model.initializer_range = 0.006;
  const auto read = [&](std::string_view key, int64_t& value, int64_t least) {
    value = integer(settings, fmt::format("model.{}", key), value, least);
  };
  const auto vocabulary = settings.find<int64_t>("model.vocab_size");
  if (vocabulary) {
    model.vocab_size = *vocabulary;
  } else if (preset.empty() || !run.data.train.empty()) {
    model.vocab_size = dataset_vocabulary();
  }
  read_trunk(settings, model, !preset.empty());
  read("n_routed_experts", model.n_routed_experts, 0);
  read("n_shared_experts", model.n_shared_experts, 0);
  const Method* const method = read_method(settings, run);
  read_top_k(settings, model, method);
  read("moe_intermediate_size", model.moe_intermediate_size, 0);
  read("intermediate_size", model.intermediate_size, 0);
  read("first_k_dense_replace", model.first_k_dense_replace, 0);
  read("moe_layer_freq", model.moe_layer_freq, 1);
  read("max_position_embeddings", model.max_position_embeddings, 1);
  const RoutingMethod routing = model.routing;
  const TopkMethod topk_method = model.topk_method;
  read_routing(settings, model);
  // The method's losses are of its own choice alone.
  if (method == nullptr || model.routing != routing || model.topk_method != topk_method) {
    run.step.balance = default_balance(model);
  }
  if (model.topk_method == TopkMethod::group_limited_greedy) run.step.balance.devices = static_cast<int>(model.n_group);
  model.tie_word_embeddings = settings.get<bool>("model.tie_word_embeddings", model.tie_word_embeddings);
  model.rms_norm_eps = non_negative(settings, "model.rms_norm_eps", model.rms_norm_eps);
  model.rope_theta = settings.get<double>("model.rope_theta", model.rope_theta);
  model.initializer_range = non_negative(settings, "train.init_std", model.initializer_range);
}

void read_balance(Settings& settings, RunConfig& run) {
  BalanceConfig& balance = run.step.balance;
  const auto weight = [&](const char* key, float& value) {
    value = static_cast<float>(non_negative(settings, fmt::format("balance.{}", key), decimal(value)));
  };
  weight("alpha_expert", balance.alpha_expert);
  weight("alpha_device", balance.alpha_device);
  balance.devices = static_cast<int>(integer(settings, "balance.devices", balance.devices, 1));
  balance.scope =
      choice(settings, "balance.scope", balance.scope, balance_scope_from, "\"sequence\", \"microbatch\" or \"step\"");
  weight("alpha_communication", balance.alpha_communication);
  balance.first_choice = settings.get<bool>("balance.first_choice", balance.first_choice);
  weight("z_loss", balance.z_loss);
  weight("importance", balance.importance);
  weight("load", balance.load);
  weight("stable_balance", balance.stable_balance);
  weight("stable_distillation", balance.stable_distillation);
  weight("bias_rate", balance.bias_rate);
}

void read_router_training(Settings& settings, RunConfig& run) {
  const bool routed = run.model.n_routed_experts > 0;
  if (routed && run.model.routing == RoutingMethod::hash) {
    const auto table = settings.get<std::string>("train.hash_table", run.balanced_hash ? "balanced" : "random");
    if (table != "random" && table != "balanced") settings.refuse("train.hash_table", "\"random\" or \"balanced\"");
    run.balanced_hash = table == "balanced";
  } else if (settings.find<std::string>("train.hash_table")) {
    settings.refuse("train.hash_table", "to be left out: only model.routing = hash has tables");
  } else {
    run.balanced_hash = false;
  }
  if (routed && run.model.routing == RoutingMethod::stable) {
    // A tenth of the steps, as in StableMoE.
    run.step.second_stage = integer(settings, "train.second_stage", (run.schedule.steps + 9) / 10, 1);
  } else if (settings.find<int64_t>("train.second_stage")) {
    settings.refuse("train.second_stage", "to be left out: only model.routing = stable has stages");
  }
}

void refuse_routing_of_dense(const Settings& settings, const RunConfig& run) {
  if (run.model.n_routed_experts > 0) return;
  const ModelConfig &model = run.model, plain;
  const BalanceConfig &balance = run.step.balance, none;
  const std::pair<const char*, bool> keys[] = {
      {"model.norm_topk_prob", model.norm_topk_prob != plain.norm_topk_prob},
      {"model.routing", model.routing != plain.routing},
      {"model.scoring_func", model.scoring_func != plain.scoring_func},
      {"model.topk_method", model.topk_method != plain.topk_method},
      {"model.n_group", model.n_group != plain.n_group},
      {"model.topk_group", model.topk_group != plain.topk_group},
      {"model.routed_scaling_factor", model.routed_scaling_factor != plain.routed_scaling_factor},
      {"model.router_jitter", model.router_jitter != plain.router_jitter},
      {"model.second_expert_threshold", model.second_expert_threshold != plain.second_expert_threshold},
      {"model.capacity_factor", model.capacity_factor != plain.capacity_factor},
      {"model.eval_capacity_factor", model.eval_capacity_factor != plain.eval_capacity_factor},
      {"balance.alpha_expert", balance.alpha_expert != none.alpha_expert},
      {"balance.alpha_device", balance.alpha_device != none.alpha_device},
      {"balance.devices", balance.devices != none.devices},
      {"balance.alpha_communication", balance.alpha_communication != none.alpha_communication},
      {"balance.first_choice", balance.first_choice != none.first_choice},
      {"balance.z_loss", balance.z_loss != none.z_loss},
      {"balance.importance", balance.importance != none.importance},
      {"balance.load", balance.load != none.load},
      {"balance.stable_balance", balance.stable_balance != none.stable_balance},
      {"balance.stable_distillation", balance.stable_distillation != none.stable_distillation},
      {"balance.bias_rate", balance.bias_rate != none.bias_rate}};
  for (const auto& [key, differs] : keys) {
    if (differs && settings.given(key)) settings.refuse(key, "to be left out, since the model has no routed experts");
  }
}

std::string method_text(const RunConfig& run, const std::string& method) {
  std::string text = routing_text(run.model);
  if (run.step.second_stage > 0) text += fmt::format(", second stage from step {} on", run.step.second_stage);
  if (run.model.n_routed_experts > 0 && run.model.routing == RoutingMethod::hash) {
    text += run.balanced_hash ? ", balanced tables" : ", random tables";
  }
  return method.empty() ? text : fmt::format("{} ({}): {}", method, find_method(method).title, text);
}

std::vector<std::string> coefficient_lines(const Settings& settings, const RunConfig& run) {
  const BalanceConfig& balance = run.step.balance;
  std::vector<std::string> lines;
  const auto say = [&](const char* key, const auto& value) {
    lines.push_back(fmt::format("{} = {} ({})", key, value, settings.where(key)));
  };
  const auto say_used = [&](const char* key, float value) {
    if (value != 0) say(key, value);
  };
  say("balance.alpha_expert", balance.alpha_expert);
  say("balance.alpha_device", balance.alpha_device);
  say("balance.devices", balance.devices);
  say("balance.scope", name(balance.scope));
  say_used("balance.alpha_communication", balance.alpha_communication);
  if (balance.first_choice) say("balance.first_choice", true);
  say_used("balance.z_loss", balance.z_loss);
  say_used("balance.importance", balance.importance);
  say_used("balance.load", balance.load);
  say_used("balance.stable_balance", balance.stable_balance);
  say_used("balance.stable_distillation", balance.stable_distillation);
  if (run.model.n_routed_experts > 0 && run.model.has_router_bias()) say("balance.bias_rate", balance.bias_rate);
  return lines;
}

}  // namespace moe
