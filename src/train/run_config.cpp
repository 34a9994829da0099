#include "train/run_config.h"

#include <cmath>

#include "model/methods.h"
#include "train/model_settings.h"
#include "train/setting_kinds.h"

namespace moe {
namespace {

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

// Consistency between the model and the other sections, said in terms of the run file's keys.
void check_together(Settings& settings, RunConfig& run) {
  refuse_routing_of_dense(settings, run);
  try {
    validate(run.model);
    validate(run.step.balance, run.model);
  } catch (const Error& error) {
    fail_usage("{} (the run file)", error.what());
  }
  if (!run.sample.prompts.empty() && run.model.n_routed_experts > 0 &&
      run.model.routing == RoutingMethod::expert_choice) {
    settings.refuse("sample.prompts",
                    "none with model.routing = expert_choice, which cannot write a text token by token");
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
  read_balance(settings, run);
  const auto dtype = settings.get<std::string>("train.dtype", "f32");
  if (dtype != "f32" && dtype != "bf16") settings.refuse("train.dtype", "\"f32\" or \"bf16\"");
  run.step.dtype = dtype == "bf16" ? DType::bf16 : DType::f32;
  run.step.recompute = settings.get<bool>("train.recompute", false);
  run.step.sequence_length = run.data.sequence_length;
  run.step.microbatch_tokens = run.data.microbatch_rows * run.data.sequence_length;
  run.step.microbatches = run.data.rows_per_step / run.data.microbatch_rows;
  run.seed = static_cast<uint64_t>(integer(settings, "train.seed", 1, 0));
  run.step.seed = run.seed;
  read_router_training(settings, run);
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
  run.method = method_text(run, settings.get<std::string>("model.method", ""));
  run.coefficients = coefficient_lines(settings, run);
  run.resolved = settings.to_toml();
  return run;
}

}  // namespace moe
