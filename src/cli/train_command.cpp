#include <cstdio>
#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/exit_status.h"
#include "train/plan_text.h"
#include "train/run_keys.h"
#include "train/trainer.h"

namespace moe {
namespace {

struct TrainOptions {
  std::string file;
  std::vector<std::string> set;
  bool resume = false;
  bool dry_run = false;
  DeviceOptions device;
};

const char* const kFooter = R"(
Example:
  moe train configs/demo.toml --dry-run                     parameters, FLOPs and memory; allocates nothing
  moe train configs/demo.toml --set train.steps=100 --set run.dir=runs/short
  moe train configs/demo.toml --resume                      go on from the newest checkpoint in run.dir

  moe train --keys                                          every key with its values, default and meaning

docs/training.md explains the keys. A run folder holds run.toml (all keys in effect), log.jsonl (one object a
step), eval.jsonl, step-N/ (Hugging Face model folders with optimizer state) and latest (a link to the newest).
Ctrl-C and SIGTERM write a checkpoint first (exit status 130 and 143).)";

RunConfig read_settings(Settings settings) {
  return read_run_config(settings, [](const std::string& folder) { return Dataset(folder).info().vocab_size; });
}

/// A resumed run goes on with its stages, however many steps it now has, unless the run file names another boundary.
RunConfig read_run(const TrainOptions& options) {
  Settings settings = Settings::load(options.file);
  for (const std::string& assignment : options.set) settings.set(assignment);
  RunConfig run = read_settings(settings);
  if (!options.resume || run.step.second_stage == 0 || settings.given("train.second_stage")) return run;
  const auto second_stage = second_stage_of_run(run.run_dir);
  if (!second_stage || *second_stage == run.step.second_stage) return run;
  settings.set(fmt::format("train.second_stage={}", *second_stage));
  return read_settings(std::move(settings));
}

void print_coefficients(const RunConfig& run) {
  log_info("loss = cross-entropy + balance losses, with");
  for (const std::string& line : run.coefficients) log_info("  {}", line);
}

int train(const TrainOptions& options) {
  RunConfig run = read_run(options);
  run.step.head_logits = head_logits(device_kind(options.device));
  const MemoryPlan plan = plan_training(run.model, run.step);
  const std::string text =
      fmt::format("{} steps of {} rows of {} tokens\nmethod: {}\n{}", run.schedule.steps, run.data.rows_per_step,
                  run.data.sequence_length, run.method, plan_text(run.model, run.step, plan));
  if (options.dry_run) {
    std::fputs(text.c_str(), stdout);
    print_coefficients(run);
    return 0;
  }
  if (run.data.train.empty()) {
    fail_usage("{}: data.train is not given; name the dataset folder that `moe data` made", options.file);
  }
  log_info("{}", text);
  print_coefficients(run);
  if (run.step.balance.counts_first() && run.model.moe_layers() > 0) {
    log_info("balance.scope = step: every step{} first counts the experts' tokens in a forward-only pass",
             run.step.second_stage > 0 ? " of the first stage" : "");
  }
  const Dataset train_data(run.data.train);
  std::optional<Dataset> valid_data;
  if (!run.data.valid.empty()) valid_data.emplace(run.data.valid);
  const Tokenizer tokenizer = Tokenizer::load(run.data.train);
  Compute compute = make_compute(options.device);
  refuse_if_too_large(run.model, run.step, plan, compute.device->info().memory_bytes,
                      {.rows = "data.microbatch_rows", .recompute = "train.recompute"});
  const int64_t most_slots = compute.device->info().most_slots;
  refuse_too_many_slots(run.model, run.data.microbatch_rows, run.data.sequence_length, most_slots,
                        "data.microbatch_rows");
  if (valid_data) {
    refuse_too_many_slots(run.model, run.evaluation.batch_rows, run.data.sequence_length, most_slots,
                          "eval.batch_rows");
  }
  const TrainingData data{train_data, valid_data ? &*valid_data : nullptr, tokenizer};
  Trainer trainer(run, plan, data, *compute.device, *compute.backend, options.resume);
  return trainer.run();
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto* command = app.add_subcommand("train", "Train a model from a run file");
  auto options = std::make_shared<TrainOptions>();
  command->add_option("FILE", options->file, "Run file (TOML), for instance configs/demo.toml")->required();
  command->add_option("--set", options->set, "Override a key of the run file: train.steps=100 (repeatable)")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command->add_flag("--resume", options->resume, "Continue from the newest checkpoint in run.dir, bit for bit");
  command->add_flag("--dry-run", options->dry_run, "Print parameters, FLOPs, steps and peak memory, and stop");
  command->add_flag_callback(
      "--keys",
      [] {
        std::fputs(keys_as_markdown().c_str(), stdout);
        throw ExitStatus{0};
      },
      "Print every key of a run file with its values, default and meaning, and stop");
  add_device_options(*command, options->device);
  command->footer(kFooter);
  command->callback([options] { exit_with(train(*options)); });
}

}  // namespace moe
