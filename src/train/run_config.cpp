#include "train/run_config.h"

#include <algorithm>
#include <cmath>

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

double non_negative(Settings& settings, std::string_view key, double default_value) {
  const double value = settings.get<double>(key, default_value);
  if (!(value >= 0) || std::isinf(value)) settings.refuse(key, "a number of 0 or more");
  return value;
}

ModelConfig read_model(Settings& settings, const std::function<int64_t()>& dataset_vocabulary) {
  ModelConfig model;
  const auto read = [&](std::string_view key, int64_t default_value, int64_t least) {
    return integer(settings, fmt::format("model.{}", key), default_value, least);
  };
  const auto vocabulary = settings.find<int64_t>("model.vocab_size");
  model.vocab_size = vocabulary ? *vocabulary : dataset_vocabulary();
  model.hidden_size = required_integer(settings, "model.hidden_size", 1);
  model.num_hidden_layers = required_integer(settings, "model.num_hidden_layers", 1);
  model.num_attention_heads = required_integer(settings, "model.num_attention_heads", 1);
  model.num_key_value_heads = read("num_key_value_heads", model.num_attention_heads, 1);
  model.head_dim = read("head_dim", model.hidden_size / model.num_attention_heads, 1);
  model.n_routed_experts = read("n_routed_experts", 0, 0);
  model.n_shared_experts = read("n_shared_experts", 0, 0);
  model.num_experts_per_tok = read("num_experts_per_tok", 0, 0);
  model.moe_intermediate_size = read("moe_intermediate_size", 0, 0);
  model.intermediate_size = read("intermediate_size", 0, 0);
  model.first_k_dense_replace = read("first_k_dense_replace", 0, 0);
  model.moe_layer_freq = read("moe_layer_freq", 1, 1);
  model.max_position_embeddings = read("max_position_embeddings", 2048, 1);
  model.norm_topk_prob = settings.get<bool>("model.norm_topk_prob", false);
  model.tie_word_embeddings = settings.get<bool>("model.tie_word_embeddings", false);
  model.rms_norm_eps = non_negative(settings, "model.rms_norm_eps", 1e-6);
  model.rope_theta = settings.get<double>("model.rope_theta", 10000.0);
  model.initializer_range = non_negative(settings, "train.init_std", 0.006);
  return model;
}

BalanceConfig read_balance(Settings& settings) {
  BalanceConfig balance;
  balance.alpha_expert = static_cast<float>(non_negative(settings, "balance.alpha_expert", 0.01));
  balance.alpha_device = static_cast<float>(non_negative(settings, "balance.alpha_device", 0.0));
  balance.devices = static_cast<int>(integer(settings, "balance.devices", 1, 1));
  const auto scope = balance_scope_from(settings.get<std::string>("balance.scope", "sequence"));
  if (!scope) settings.refuse("balance.scope", "\"sequence\", \"microbatch\" or \"step\"");
  balance.scope = *scope;
  return balance;
}

Schedule read_schedule(Settings& settings) {
  Schedule schedule;
  const auto kind = schedule_kind_from(settings.get<std::string>("schedule.kind", "step_decay"));
  if (!kind) settings.refuse("schedule.kind", "\"step_decay\", \"constant\", \"cosine\" or \"wsd\"");
  schedule.kind = *kind;
  schedule.steps = required_integer(settings, "train.steps", 1);
  schedule.peak = non_negative(settings, "optimizer.learning_rate", 1e-3);
  const double fraction = number_in(settings, "schedule.warmup_fraction", 0.05, 0.0, 1.0);
  schedule.warmup_steps = integer(settings, "schedule.warmup_steps",
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
    settings.refuse("data.microbatch_rows", fmt::format("a divisor of data.rows_per_step, which is {}", data.rows_per_step));
  }
  data.train = settings.get<std::string>("data.train", "");
  data.valid = settings.get<std::string>("data.valid", "");
  return data;
}

// Consistency between the model and the other sections, said in terms of the run file's keys.
void check_together(Settings& settings, RunConfig& run) {
  try {
    validate(run.model);
  } catch (const Error& error) {
    fail_usage("{} (section [model] of the run file)", error.what());
  }
  if (run.data.sequence_length > run.model.max_position_embeddings) {
    settings.refuse("data.sequence_length", fmt::format("at most model.max_position_embeddings, which is {}",
                                                        run.model.max_position_embeddings));
  }
  const int64_t experts = run.model.n_routed_experts;
  if (experts > 0 && experts % run.step.balance.devices != 0) {
    settings.refuse("balance.devices", fmt::format("a divisor of model.n_routed_experts, which is {}", experts));
  }
}

}  // namespace

RunConfig read_run_config(Settings& settings,
                          const std::function<int64_t(const std::string& folder)>& dataset_vocabulary) {
  RunConfig run;
  run.data = read_data(settings);
  run.model = read_model(settings, [&] {
    if (run.data.train.empty()) settings.require<int64_t>("model.vocab_size");
    return dataset_vocabulary(run.data.train);
  });
  run.schedule = read_schedule(settings);
  run.step.optimizer = read_optimizer(settings);
  run.step.balance = read_balance(settings);
  const auto dtype = settings.get<std::string>("train.dtype", "f32");
  if (dtype != "f32" && dtype != "bf16") settings.refuse("train.dtype", "\"f32\" or \"bf16\"");
  run.step.dtype = dtype == "bf16" ? DType::bf16 : DType::f32;
  run.step.recompute = settings.get<bool>("train.recompute", false);
  run.step.sequence_length = run.data.sequence_length;
  run.step.microbatch_tokens = run.data.microbatch_rows * run.data.sequence_length;
  run.step.microbatches = run.data.rows_per_step / run.data.microbatch_rows;
  run.seed = static_cast<uint64_t>(integer(settings, "train.seed", 1, 0));
  run.evaluation.every = integer(settings, "eval.every", 0, 0);
  run.evaluation.batch_rows = integer(settings, "eval.batch_rows", run.data.microbatch_rows, 1);
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
  say("balance.alpha_expert", balance.alpha_expert);
  say("balance.alpha_device", balance.alpha_device);
  say("balance.devices", balance.devices);
  say("balance.scope", name(balance.scope));
  run.resolved = settings.to_toml();
  return run;
}

}  // namespace moe
