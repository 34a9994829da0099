#include "train/run_config.h"

#include <algorithm>
#include <cmath>

#include "model/methods.h"
#include "model/presets.h"

namespace moe {
namespace {

int64_t at_least(Settings& settings, std::string_view key, int64_t value, int64_t least) {
  if (value < least) settings.refuse(key, fmt::format("at least {}", least));
  return value;
}

int64_t integer(Settings& settings, std::string_view key, int64_t default_value, int64_t least) {
  return at_least(settings, key, settings.get<int64_t>(key, default_value), least);
}

int64_t required_integer(Settings& settings, std::string_view key, int64_t least) {
  return at_least(settings, key, settings.require<int64_t>(key), least);
}

double number_in(Settings& settings, std::string_view key, double default_value, double least, double most) {
  const double value = settings.get<double>(key, default_value);
  if (!(value >= least && value <= most)) settings.refuse(key, fmt::format("a number from {} to {}", least, most));
  return value;
}

/// The number that a float was written as.
double decimal(float value) { return std::stod(fmt::format("{}", value)); }

double non_negative(Settings& settings, std::string_view key, double default_value) {
  const double value = settings.get<double>(key, default_value);
  if (!(value >= 0) || std::isinf(value)) settings.refuse(key, "a number of 0 or more");
  return value;
}

/// A setting that names one of a few values.
template <class T>
T choice(Settings& settings, std::string_view key, T default_value, std::optional<T> (*from)(std::string_view),
         const char* expected) {
  const auto found = from(settings.get<std::string>(key, name(default_value)));
  if (!found) settings.refuse(key, expected);
  return *found;
}

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
  number("capacity_factor", model.capacity_factor);
  number("eval_capacity_factor", model.eval_capacity_factor);
}

/// The preset's sizes and the method's choices where the file names them, and every key over them. `run.step.balance`
/// gets the losses that go with the model, which [balance] may change.
void read_model(Settings& settings, RunConfig& run, const std::function<int64_t()>& dataset_vocabulary) {
  ModelConfig& model = run.model;
  const auto preset = settings.get<std::string>("model.preset", "");
  if (!preset.empty()) model = find_preset(preset).config;
  model.initializer_range = 0.006;
  const auto read = [&](std::string_view key, int64_t& value, int64_t least) {
    value = integer(settings, fmt::format("model.{}", key), value, least);
  };
  const auto size = [&](std::string_view key, int64_t& value) {
    const std::string full = fmt::format("model.{}", key);
    value = preset.empty() ? required_integer(settings, full, 1) : integer(settings, full, value, 1);
  };
  const auto vocabulary = settings.find<int64_t>("model.vocab_size");
  if (vocabulary) {
    model.vocab_size = *vocabulary;
  } else if (preset.empty() || !run.data.train.empty()) {
    model.vocab_size = dataset_vocabulary();
  }
  const int64_t heads = model.num_attention_heads;
  size("hidden_size", model.hidden_size);
  size("num_hidden_layers", model.num_hidden_layers);
  size("num_attention_heads", model.num_attention_heads);
  if (model.num_attention_heads != heads) model.num_key_value_heads = model.num_attention_heads;
  read("num_key_value_heads", model.num_key_value_heads, 1);
  model.head_dim = model.hidden_size / model.num_attention_heads;
  read("head_dim", model.head_dim, 1);
  read("n_routed_experts", model.n_routed_experts, 0);
  read("n_shared_experts", model.n_shared_experts, 0);
  run.step.balance = default_balance(model);
  const auto method = settings.get<std::string>("model.method", "");
  if (!method.empty()) {
    const Method& row = find_method(method);
    row.apply(model, run.step.balance);
    run.balanced_hash = row.balanced_hash;
  }
  read("num_experts_per_tok", model.num_experts_per_tok, 0);
  read("moe_intermediate_size", model.moe_intermediate_size, 0);
  read("intermediate_size", model.intermediate_size, 0);
  read("first_k_dense_replace", model.first_k_dense_replace, 0);
  read("moe_layer_freq", model.moe_layer_freq, 1);
  read("max_position_embeddings", model.max_position_embeddings, 1);
  read_routing(settings, model);
  if (method.empty()) run.step.balance = default_balance(model);
  model.tie_word_embeddings = settings.get<bool>("model.tie_word_embeddings", model.tie_word_embeddings);
  model.rms_norm_eps = non_negative(settings, "model.rms_norm_eps", model.rms_norm_eps);
  model.rope_theta = settings.get<double>("model.rope_theta", model.rope_theta);
  model.initializer_range = non_negative(settings, "train.init_std", model.initializer_range);
}

/// Each key of [balance] over what goes with the model.
void read_balance(Settings& settings, BalanceConfig& balance) {
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

Schedule read_schedule(Settings& settings) {
  Schedule schedule;
  const auto kind = schedule_kind_from(settings.get<std::string>("schedule.kind", "step_decay"));
  if (!kind) settings.refuse("schedule.kind", "\"step_decay\", \"constant\", \"cosine\" or \"wsd\"");
  schedule.kind = *kind;
  schedule.steps = required_integer(settings, "train.steps", 1);
  schedule.peak = non_negative(settings, "optimizer.learning_rate", 1e-3);
  const double fraction = number_in(settings, "schedule.warmup_fraction", 0.05, 0.0, 1.0);
  schedule.warmup_steps =
      integer(settings, "schedule.warmup_steps",
              static_cast<int64_t>(std::llround(fraction * static_cast<double>(schedule.steps))), 0);
  schedule.decay_factor = non_negative(settings, "schedule.decay_factor", 0.316);
  schedule.final_ratio = number_in(settings, "schedule.final_ratio", 0.1, 0.0, 1.0);
  schedule.decay_fraction = number_in(settings, "schedule.decay_fraction", 0.2, 0.0, 1.0);
  return schedule;
}

AdamWConfig read_optimizer(Settings& settings) {
  AdamWConfig optimizer;
  optimizer.beta1 = number_in(settings, "optimizer.beta1", optimizer.beta1, 0.0, 0.999999);
  optimizer.beta2 = number_in(settings, "optimizer.beta2", optimizer.beta2, 0.0, 0.999999);
  optimizer.eps = non_negative(settings, "optimizer.eps", optimizer.eps);
  optimizer.weight_decay = non_negative(settings, "optimizer.weight_decay", optimizer.weight_decay);
  optimizer.clip = non_negative(settings, "optimizer.clip", optimizer.clip);
  return optimizer;
}

DataConfig read_data(Settings& settings) {
  DataConfig data;
  data.sequence_length = required_integer(settings, "data.sequence_length", 1);
  data.rows_per_step = required_integer(settings, "data.rows_per_step", 1);
  data.microbatch_rows = integer(settings, "data.microbatch_rows", data.rows_per_step, 1);
  if (data.rows_per_step % data.microbatch_rows != 0) {
    settings.refuse("data.microbatch_rows",
                    fmt::format("a divisor of data.rows_per_step, which is {}", data.rows_per_step));
  }
  data.train = settings.get<std::string>("data.train", "");
  data.valid = settings.get<std::string>("data.valid", "");
  return data;
}

void read_training_of_routers(Settings& settings, RunConfig& run) {
  const auto table = settings.get<std::string>("train.hash_table", run.balanced_hash ? "balanced" : "random");
  if (table != "random" && table != "balanced") settings.refuse("train.hash_table", "\"random\" or \"balanced\"");
  run.balanced_hash = table == "balanced";
  // A tenth of the steps, as in StableMoE.
  const int64_t second_stage = integer(settings, "train.second_stage", (run.schedule.steps + 9) / 10, 1);
  if (run.model.n_routed_experts > 0 && run.model.routing == RoutingMethod::stable)
    run.step.second_stage = second_stage;
}

// Consistency between the model and the other sections, said in terms of the run file's keys.
void check_together(Settings& settings, RunConfig& run) {
  try {
    validate(run.model);
    validate(run.step.balance, run.model);
  } catch (const Error& error) {
    fail_usage("{} (the run file)", error.what());
  }
  if (run.data.sequence_length > run.model.max_position_embeddings) {
    settings.refuse("data.sequence_length", fmt::format("at most model.max_position_embeddings, which is {}",
                                                        run.model.max_position_embeddings));
  }
}

}  // namespace

RunConfig read_run_config(Settings& settings,
                          const std::function<int64_t(const std::string& folder)>& dataset_vocabulary) {
  RunConfig run;
  run.data = read_data(settings);
  read_model(settings, run, [&] {
    if (run.data.train.empty()) settings.require<int64_t>("model.vocab_size");
    return dataset_vocabulary(run.data.train);
  });
  run.schedule = read_schedule(settings);
  run.step.optimizer = read_optimizer(settings);
  read_balance(settings, run.step.balance);
  const auto dtype = settings.get<std::string>("train.dtype", "f32");
  if (dtype != "f32" && dtype != "bf16") settings.refuse("train.dtype", "\"f32\" or \"bf16\"");
  run.step.dtype = dtype == "bf16" ? DType::bf16 : DType::f32;
  run.step.recompute = settings.get<bool>("train.recompute", false);
  run.step.sequence_length = run.data.sequence_length;
  run.step.microbatch_tokens = run.data.microbatch_rows * run.data.sequence_length;
  run.step.microbatches = run.data.rows_per_step / run.data.microbatch_rows;
  run.seed = static_cast<uint64_t>(integer(settings, "train.seed", 1, 0));
  run.step.seed = run.seed;
  read_training_of_routers(settings, run);
  run.evaluation.every = integer(settings, "eval.every", 0, 0);
  run.evaluation.batch_rows = integer(settings, "eval.batch_rows", run.data.microbatch_rows, 1);
  run.evaluation.every_nth = integer(settings, "eval.every_nth", 1, 1);
  run.checkpoint.every = integer(settings, "checkpoint.every", 0, 0);
  run.checkpoint.keep_last = integer(settings, "checkpoint.keep_last", 2, 1);
  run.checkpoint.keep_every = integer(settings, "checkpoint.keep_every", 0, 0);
  run.sample.prompts = settings.get<std::vector<std::string>>("sample.prompts", {});
  run.sample.every = integer(settings, "sample.every", 0, 0);
  run.sample.max_new_tokens = integer(settings, "sample.max_new_tokens", run.sample.max_new_tokens, 1);
  run.sample.temperature = non_negative(settings, "sample.temperature", run.sample.temperature);
  run.run_dir = settings.get<std::string>("run.dir", "runs/run");
  settings.finish();
  check_together(settings, run);
  run.model.aux_loss_alpha = run.step.balance.alpha_expert;
  run.model.seq_aux = run.step.balance.scope == BalanceScope::sequence;
  const BalanceConfig& balance = run.step.balance;
  const auto say = [&](const char* key, const auto& value) {
    run.coefficients.push_back(fmt::format("{} = {} ({})", key, value, settings.where(key)));
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
  say_used("balance.bias_rate", balance.bias_rate);
  run.resolved = settings.to_toml();
  return run;
}

}  // namespace moe
