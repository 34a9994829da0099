#include "train/read_run_config.h"

#include "base/words.h"
#include "model/balance_defaults.h"
#include "model/methods.h"
#include "model/validate.h"
#include "train/freeze.h"
#include "train/health.h"
#include "train/length.h"
#include "train/model_settings.h"
#include "train/read_keys.h"
#include "train/run_keys.h"

namespace moe {
namespace {

/// [lora], which belongs to train.parameters = "lora", and the adapters that it asks for.
void read_lora(Settings& settings, RunConfig& run) {
  LoraConfig& lora = run.step.lora;
  if (run.step.parameters != TrainedPart::lora) {
    for (const KeyRow<LoraConfig>& row : lora_keys()) {
      settings.know(row.key);
      if (!settings.given(row.key) || settings.kept(row.key)) continue;
      keep_mistake_of(settings, row.key,
                      [&] { settings.refuse(row.key, "to be left out: it needs train.parameters = lora"); });
    }
    return;
  }
  if (run.from.empty()) {
    keep_mistake_of(settings, "train.parameters", [&] {
      settings.refuse("train.parameters", "\"all\" without model.from: adapters change a model that exists");
    });
  }
  if (settings.has_mistakes()) return read_rows(settings, lora_keys(), lora, run.model);
  lora.base = run.step.dtype;
  lora.targets = present_targets(run.model);
  std::erase(lora.targets, "head");
  read_rows(settings, lora_keys(), lora, run.model);
  keep_mistake_of(settings, "lora.base", [&] {
    if (!is_plain(*lora.base) || *lora.base == run.step.dtype) return;
    settings.refuse("lora.base", fmt::format("train.dtype, which is {}, or a type of blocks", name(run.step.dtype)));
  });
  keep_mistake_of(settings, "lora.targets", [&] {
    try {
      run.model.adapters = adapters_of(run.model, lora);
    } catch (const Error& error) {
      fail_usage("{}: lora.targets: {}", settings.where("lora.targets"), error.what());
    }
  });
}

// Checks that the model and the other sections fit together. Errors use the run file's keys.
void check_together(Settings& settings, RunConfig& run) {
  if (run.run_dir.empty()) fail_usage("run.dir is empty, expected the name of a folder");
  try {
    validate(run.model);
    validate(run.step.balance, run.model);
  } catch (const Error& error) {
    fail_usage("{} (the run file)", error.what());
  }
  try {
    training_table(run.model, run.step);
  } catch (const Error& error) {
    fail_usage("{}: train.freeze: {}", settings.where("train.freeze"), error.what());
  }
  if (run.step.objective == Objective::dpo && run.from.empty()) {
    settings.refuse("train.objective", "a model to begin with (model.from), whose preferences are the reference");
  }
  if (!run.sample.prompts.empty() && !run.model.causal()) {
    settings.refuse("sample.prompts",
                    fmt::format("none with model.routing = {}, which cannot write a text token by token",
                                run.model.routing_row().name));
  }
  for (const std::string& kind : run.health.stop_on) {
    if (is_health_kind(kind)) continue;
    settings.refuse("health.stop_on", fmt::format("some of {}", alternatives(health_kinds())));
  }
  if (run.data.microbatch_rows == 0) {
    if (run.step.balance.scope == BalanceScope::microbatch) {
      settings.refuse("data.microbatch_rows",
                      "a number with balance.scope = \"microbatch\", as the losses depend on it (for instance 1)");
    }
  } else if (run.data.rows_per_step % run.data.microbatch_rows != 0) {
    settings.refuse("data.microbatch_rows",
                    fmt::format("a divisor of data.rows_per_step, which is {}", run.data.rows_per_step));
  }
  if (run.data.microbatch_rows * run.data.sequence_length > kMostCount) {
    settings.refuse(
        "data.microbatch_rows",
        fmt::format("at most {} rows of data.sequence_length = {} tokens, as a microbatch holds up to {} tokens",
                    kMostCount / run.data.sequence_length, run.data.sequence_length, kMostCount));
  }
  if (run.data.sequence_length > run.model.max_position_embeddings) {
    settings.refuse("data.sequence_length", fmt::format("at most model.max_position_embeddings, which is {}",
                                                        run.model.max_position_embeddings));
  }
}

}  // namespace

RunConfig read_run_config(Settings& settings, const DatasetVocabulary& vocabulary, const RowsPerEpoch& rows_per_epoch,
                          const RunStart& start) {
  RunConfig run;
  const ModelConfig& model = run.model;
  for (const ListedKey& key : all_run_keys()) settings.know(key.info->key, key.info->also);
  settings.take_as_paths("data.train");
  read_rows(settings, data_keys(), run.data, model);
  read_rows(settings, rows_before(run_keys(), "train.hash_table"), run, model);
  if (start.checkpoint) run.kept_in = start.checkpoint(run.run_dir).value_or("");
  const auto dataset_vocabulary = [&] {
    if (run.data.train.empty()) settings.require<int64_t>("model.vocab_size");
    return vocabulary(run.data.train);
  };
  read_model(settings, run, dataset_vocabulary, start);
  read_length(settings, run, rows_per_epoch);
  read_rows(settings, rows_from(schedule_keys(), "optimizer.learning_rate"), run.schedule, model);
  read_rows(settings, optimizer_keys(), run.step.optimizer, model);
  read_rows(settings, balance_keys(), run.step.balance, model);
  if (!kNeedsHash.holds(model)) run.balanced_hash = false;
  read_rows(settings, rows_from(run_keys(), "train.hash_table"), run, model);
  if (kNeedsStable.holds(model)) run.step.second_stage = (run.schedule.steps + 9) / 10;  // as in StableMoE
  read_rows(settings, step_keys(), run.step, model);
  read_lora(settings, run);
  read_experts(settings, run, start);
  read_rows(settings, evaluation_keys(), run.evaluation, model);
  run.evaluation.rows_follow = run.evaluation.batch_rows == 0;
  if (run.evaluation.rows_follow && run.data.microbatch_rows > 0) {
    run.evaluation.batch_rows = run.data.microbatch_rows;
    settings.resolve("eval.batch_rows", run.evaluation.batch_rows);
  }
  read_rows(settings, checkpoint_keys(), run.checkpoint, model);
  read_rows(settings, sample_keys(), run.sample, model);
  read_rows(settings, log_keys(), run.log, model);
  read_rows(settings, health_keys(), run.health, model);
  refuse_without_effect(settings, model_keys(), run.model, model);
  refuse_without_effect(settings, balance_keys(), run.step.balance, model);
  refuse_without_effect(settings, schedule_keys(), run.schedule, model);
  refuse_without_effect(settings, optimizer_keys(), run.step.optimizer, model);
  refuse_without_effect(settings, step_keys(), run.step, model);
  settings.finish();
  check_together(settings, run);
  if (run.data.microbatch_rows > 0) {
    const bool open = run.step.choose_recompute;
    set_microbatch(run, run.data.microbatch_rows, run.step.recompute);
    run.step.choose_recompute = open;
  }
  run.step.seed = run.seed;
  run.model.aux_loss_alpha = run.step.balance.alpha_expert;
  run.model.seq_aux = run.step.balance.scope == BalanceScope::sequence;
  run.method = method_text(run);
  run.coefficients = coefficient_lines(settings, run);
  run.resolved = settings.to_toml();
  return run;
}

}  // namespace moe
