#include <algorithm>
#include <memory>
#include <optional>

#include "backend/cuda/cuda_backend.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "base/paths.h"
#include "base/units.h"
#include "checkpoint/exports.h"
#include "cli/build_facts.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/exit_status.h"
#include "cli/find_rate.h"
#include "cli/memory_option.h"
#include "cli/number_option.h"
#include "cli/process_ranks.h"
#include "cli/product_rate.h"
#include "cli/repeated_words.h"
#include "formats/weighted_paths.h"
#include "plan/rank_wire.h"
#include "train/amounts.h"
#include "train/batches.h"
#include "train/fit.h"
#include "train/length.h"
#include "train/plan_text.h"
#include "train/ranks.h"
#include "train/read_run_config.h"
#include "train/resume.h"
#include "train/run_keys.h"
#include "train/settle.h"
#include "train/start_text.h"
#include "train/trained_text.h"
#include "train/trainer.h"

namespace moe {
namespace {

struct TrainOptions {
  std::string file;
  std::vector<std::string> set;
  std::vector<std::string> allow_change;
  bool resume = false;
  bool dry_run = false;
  bool verbose = false;
  bool find_rate = false;
  int64_t find_rate_steps = 0;
  int ranks = 0;  ///< 0: as a launcher says, else 1
  int expert_ranks = 1;
  int stages = 1;
  double hang_limit = -1;  ///< not given
  DeviceOptions device;
  int64_t memory_limit = 0;
};

const char* const kFooter = R"(
Example:
  moe train configs/demo.toml --dry-run --verbose           size, FLOPs, time, memory, disk; trains nothing
  moe train configs/demo.toml --set train.steps=100 --set run.dir=runs/short
  moe train configs/deepseekmoe-2b.toml --dry-run --device cuda --memory-limit 40GB
                                                            what it would take on a card of 40 GB, which may be
                                                            absent here
  moe train configs/demo.toml --resume                      continue from the newest good checkpoint in run.dir
  moe train configs/demo.toml --resume --set train.steps=900 --allow-change train.steps
                                                            another run from here on: more steps

  moe train configs/demo.toml --ranks 2 --device cpu        two processes share every step (docs/parallelism.md)
  moe train configs/demo.toml --ranks 2 --device cpu --dry-run
                                                            the memory of each rank, and the bytes that it sends
  moe train configs/demo.toml --ranks 2 --expert-parallel 2 --device cpu
                                                            and each has half of the routed experts
  moe train configs/demo.toml --ranks 2 --pipeline 2 --device cpu
                                                            each has half of the layers

  moe train configs/demo.toml --find-rate                   short runs at rising rates, a table and a recommendation

  moe train --keys                                          every key with its values, default and meaning

docs/training.md explains the keys. A run folder holds run.toml (all keys in effect), log.jsonl (one object a
step), eval.jsonl, step-N/ (Hugging Face model folders with optimizer state) and latest (a link to the newest).
Ctrl-C, SIGTERM and a closed terminal write a checkpoint first (exit status 130, 143 and 129). If a rank ends because
another one has ended, its exit status is 75.)";

/// A step may have operations of any length, so an unusual standstill is one that is longer than all before it.
HangLimits hang_limits(const TrainOptions& options) {
  if (options.hang_limit >= 0) return {.seconds = options.hang_limit, .first_step_seconds = options.hang_limit};
  return {.seconds = 12, .first_step_seconds = 300, .times_longest = 4};
}

RunConfig read_settings(Settings settings, const TrainOptions& options) {
  return read_run_config(settings, dataset_vocabulary, dataset_rows_per_epoch, start_of(options.resume));
}

/// A change must be named twice, so that a run file that was edited for another run changes nothing.
void check_allowed_changes(const TrainOptions& options) {
  for (const std::string& key : options.allow_change) {
    if (!options.resume) fail_usage("--allow-change {}: it has no effect without --resume; add --resume", key);
    const bool set = std::any_of(options.set.begin(), options.set.end(), [&](const std::string& assignment) {
      const std::string given = assignment.substr(0, assignment.find('='));
      return given == key || (is_length(given) && is_length(key));
    });
    if (set) continue;
    const std::vector<ListedKey> keys = all_run_keys();
    const auto named = [&](const std::string& name) {
      return std::any_of(keys.begin(), keys.end(), [&](const ListedKey& one) { return one.info->key == name; });
    };
    if (!named(key)) {
      for (const ListedKey& one : keys) {
        if (!std::string_view(one.info->key).ends_with("." + key)) continue;
        fail_usage("--allow-change {}: there is no such key; did you mean {}?", key, one.info->key);
      }
      fail_usage("--allow-change {}: there is no such key; `moe train --keys` lists them", key);
    }
    fail_usage("--allow-change {}: give the new value too, with --set {}=VALUE", key, key);
  }
}

bool allows(const TrainOptions& options, const std::string& key) {
  return std::find(options.allow_change.begin(), options.allow_change.end(), key) != options.allow_change.end();
}

/// The keys that may change. Epochs and hours become steps.
std::vector<std::string> allowed_changes(const TrainOptions& options) {
  std::vector<std::string> keys = options.allow_change;
  if (std::any_of(keys.begin(), keys.end(), is_length)) keys.emplace_back("train.steps");
  return keys;
}

/// The run file with the command line's keys over it, and with `steps` steps, if given. A resumed run keeps what was
/// settled when it began.
RunConfig read_run(const TrainOptions& options, std::optional<int64_t> steps = {}) {
  check_allowed_changes(options);
  Settings settings = Settings::load(options.file);
  if (settings.given("study.systems")) {
    fail_usage("{} is a study of several systems; `moe study run {}` trains them", options.file, options.file);
  }
  for (const std::string& assignment : options.set) settings.set(assignment);
  if (steps) {
    settings.set("train.hours=0");
    settings.set(fmt::format("train.steps={}", *steps));
  }
  RunConfig run = read_settings(settings, options);
  if (!options.resume) return run;
  if (run.schedule.hours > 0 && !allows(options, "train.hours")) {
    if (const auto begun = steps_of_run(run.run_dir)) {
      log_info("train.hours: {} began with {} and keeps them; --allow-change train.hours measures again", run.run_dir,
               counted(*begun, "step"));
      return read_run(options, begun);
    }
  }
  const auto found = find_checkpoint(run.run_dir).found;
  if (!found || !keep_settings(settings, *found, run, allowed_changes(options))) return run;
  return read_settings(std::move(settings), options);
}

/// Settles what the run file leaves to the program: as the run that is resumed has it, else by what fits here.
void settle_microbatch(const TrainOptions& options, RunConfig& run, const RunFacts& facts, const Place& place,
                       Communicator& communicator = one_rank()) {
  if (!run.chooses_microbatch()) return;
  if (options.resume) {
    const auto found = find_checkpoint(run.run_dir).found;
    if (settle_as_kept(run, (found ? found->folder : fs::path(run.run_dir)) / "run.toml")) return;
  }
  settle(run, chosen_by_rank_0(communicator, choose_microbatch(run, facts, place)));
}

/// The same settled run with this number of steps.
RunConfig with_steps(const TrainOptions& options, const RunConfig& run, int64_t steps) {
  RunConfig other = read_run(options, steps);
  other.step.logits_per_chunk = run.step.logits_per_chunk;
  if (other.chooses_microbatch()) settle(other, {run.data.microbatch_rows, run.step.recompute});
  return other;
}

/// The same run with as many steps as fit run.schedule.hours at the rate measured here.
RunConfig with_measured_steps(const TrainOptions& options, const RunConfig& run, const MemoryPlan& plan,
                              const Dataset& data, Compute& compute) {
  const BatchSource source = timed_batches(run, data);
  const int64_t rows = run.data.microbatch_rows;
  const double seconds = measure_step_seconds(
      run, plan, *compute.device, *compute.backend,
      [&](int64_t step, int64_t microbatch) { return source.rows(step, microbatch * rows, rows); });
  const int64_t steps = steps_within(3600 * run.schedule.hours, seconds);
  log_info("train.hours = {}: {}, by {:.3f} s a step over ten steps; evaluations and checkpoints need additional time",
           run.schedule.hours, counted(steps, "step"), seconds);
  return with_steps(options, run, steps);
}

/// What --verbose adds to the lines before a run.
std::string details_text(const RunConfig& run, const RunMemory& memory) {
  std::string text = plan_text(run.model, run.step, memory.step) + run_memory_text(memory) +
                     "loss = cross-entropy + balance losses, with\n";
  for (const std::string& line : run.coefficients) text += "  " + line + "\n";
  return text;
}

/// The same run with the number of steps that fits run.schedule.hours by an estimate.
RunConfig with_estimated_steps(const TrainOptions& options, const RunConfig& run, const MemoryPlan& plan, double rate) {
  const int64_t steps = steps_within(3600 * run.schedule.hours, estimated_step_seconds(run, plan, rate));
  log_info("train.hours = {}: about {}, estimated; the run will measure them", run.schedule.hours,
           counted(steps, "step"));
  return with_steps(options, run, steps);
}

void check_data(const RunConfig& run, const TrainingData& data) {
  check_before_start(run, data);
  data.train.check_content();
  if (data.valid != nullptr) data.valid->check_content();
}

/// The datasets of a run that are there.
struct RunData {
  std::optional<Dataset> train, valid;
  std::optional<Tokenizer> tokenizer;

  explicit RunData(const DataConfig& data) {
    const auto is_there = [](const std::string& what) {
      return !what.empty() && (is_weighted_paths(what) || path_exists(what));
    };
    if (is_there(data.train)) {
      train.emplace(data.train);
      tokenizer.emplace(Tokenizer::load(train->folder()));
    }
    if (is_there(data.valid) || (train && !data.valid.empty())) valid.emplace(data.valid);
  }
  const Dataset* train_set() const { return train ? &*train : nullptr; }
  const Dataset* valid_set() const { return valid ? &*valid : nullptr; }
};

/// The step that a run would be resumed at. Refuses what the run would refuse.
std::optional<int64_t> resumed_step(const TrainOptions& options, const RunConfig& run, const Dataset* train) {
  const auto found = search_start(run.run_dir, options.resume).found;
  if (!found) return std::nullopt;
  if (train != nullptr) check_same_run(*found, run, *train, allowed_changes(options));
  return found->state.step;
}

/// What a dry run plans for.
struct PlannedDevice {
  std::string name;
  Place place;
  double product_rate;  ///< FLOP/s; 0: not measured
};

/// This machine's device, or, with a limit, a GPU of that size, which need not be here.
PlannedDevice planned_device(const TrainOptions& options, DType dtype) {
  const bool gpu = device_kind(options.device) == DeviceKind::cuda;
  if (gpu && options.memory_limit > 0 && cuda_workspace_bytes() > 0 && !why_no_cuda().empty()) {
    return {.name = fmt::format("a GPU of {}, which is not here", bytes_text(options.memory_limit)),
            .place = gpu_place(options.memory_limit),
            .product_rate = 0};
  }
  Compute compute = make_compute(options.device);
  Place place = limited_place(*compute.device, options.memory_limit);
  if (gpu && options.memory_limit > 0) place.device.available_bytes = options.memory_limit;  // a larger one, too
  return {.name = device_name(compute), .place = place, .product_rate = measured_product_rate(compute, dtype)};
}

void dry_run(const TrainOptions& options, RunConfig run, const ProcessRanks& ranks) {
  const PlannedDevice planned = planned_device(options, run.step.dtype);
  const Place place = ranks.part_of(planned.place, device_kind(options.device));
  const RunData data(run.data);
  if (data.train) check_data(run, {*data.train, data.valid_set(), *data.tokenizer});
  const RunFacts facts = facts_of(run, data.train_set(), data.valid_set(), data.tokenizer ? &*data.tokenizer : nullptr);
  settle_microbatch(options, run, facts, place);
  run.step.rank = fullest_rank(run, facts, place);
  const RunMemory memory = plan_run(run, facts, place);
  const double rate = planned.product_rate;
  if (run.schedule.hours > 0 && rate == 0) {
    fail_usage("train.hours = {}: {}, so its rate is not known; give train.steps instead", run.schedule.hours,
               planned.name);
  }
  if (run.schedule.hours > 0) run = with_estimated_steps(options, run, memory.step, rate);
  const auto step = resumed_step(options, run, data.train_set());
  const bool mixture = data.train && data.train->parts().size() > 1;
  const BeforeRun before{
      .run = run,
      .memory = memory,
      .train = data.train_set(),
      .valid = data.valid_set(),
      .device = planned.name,
      .available_bytes = place.device.available_bytes,
      .product_rate = rate,
      .resumed_step = step,
      .part_epochs = mixture ? part_epochs(training_batches(run.data, run.seed, *data.train), run.schedule.steps)
                             : std::vector<double>()};
  print_text(start_text(before));
  if (has_trained_text(run)) print_text(trained_text(run, before.device));
  print_text(fmt::format("{:<12} {}\n", "exports to", exports_text(run.model, data.train ? data.train->folder() : "")));
  if (options.verbose) print_text(details_text(run, memory));
  if (run.step.ranks > 1) print_text(rank_tables(run.model, run.step));
  for (const std::string& warning : start_warnings(before)) log_warning("{}", warning);
  try {
    refuse_if_too_large(run, facts, memory, place);
  } catch (const Error& error) {
    log_warning("the run does not fit {}: {}", planned.name.starts_with("a GPU of") ? planned.name : "here",
                error.what());
  }
}

int train(TrainOptions options, ProcessRanks& ranks) {
  options.device = ranks.part_of(options.device);
  RunConfig run = read_run(options);
  if (!options.dry_run) ranks.check_gpus(options.device);  // a plan needs none
  divide_among(
      run, {.rank = ranks.rank(), .ranks = ranks.size(), .experts = options.expert_ranks, .stages = options.stages});
  run.step.logits_per_chunk = logits_per_chunk(device_kind(options.device), run.model.vocab_size);
  check_output_folder(run.run_dir);
  if (!options.resume) search_start(run.run_dir, options.resume);
  if (options.dry_run) {
    if (ranks.rank() == 0) dry_run(options, std::move(run), ranks);
    return 0;
  }
  if (run.data.train.empty()) {
    fail_usage("{}: data.train is not given; name the dataset folder that `moe data` made", options.file);
  }
  const Dataset train_data(run.data.train);
  std::optional<Dataset> valid_data;
  if (!run.data.valid.empty()) valid_data.emplace(run.data.valid);
  const Tokenizer tokenizer = Tokenizer::load(train_data.folder());
  const TrainingData data{train_data, valid_data ? &*valid_data : nullptr, tokenizer};
  check_data(run, data);
  const std::string program = fmt::format("moe {} (commit {})", kBuildFacts.version, kBuildFacts.commit);
  Communicator& communicator = ranks.connect();
  const std::string kind = device_kind(options.device) == DeviceKind::cuda ? "cuda" : "cpu";
  if (ranks.size() > 1) {
    check_same_start(communicator, host_name(), start_facts(run, data, options.resume, program, kind));
  }
  Compute compute = make_compute(options.device);
  if (run.step.expert_ranks > 1 || run.step.stages > 1) {  // evaluations and samples need equal bits on all of them
    check_same_start(communicator, host_name(), {{"the processor", compute.device->info().name}});
  }
  const std::unique_ptr<Communicator> gpus = ranks.connect_gpus(compute);
  const Place place = ranks.part_of(limited_place(*compute.device, options.memory_limit), compute.kind);
  const RunFacts facts = facts_of(run, &data.train, data.valid, &tokenizer);
  settle_microbatch(options, run, facts, place, communicator);
  const RunMemory memory = plan_run(run, facts, place);
  refuse_if_too_large(run, facts, memory, place);
  const double product_rate = measured_product_rate(compute, run.step.dtype);  // while there is room
  if (run.schedule.hours > 0) run = with_measured_steps(options, run, memory.step, train_data, compute);
  Trainer trainer(run, memory.step, data, *compute.device, *compute.backend, compute.pool,
                  {.resume = options.resume,
                   .allowed = allowed_changes(options),
                   .program = program,
                   .device = device_name(compute),
                   .planned_bytes = memory.device_total(),
                   .planned_step_seconds = estimated_step_seconds(run, memory.step, product_rate)},
                  gpus ? *gpus : communicator);
  const BeforeRun before{.run = run,
                         .memory = memory,
                         .train = &train_data,
                         .valid = data.valid,
                         .device = device_name(compute),
                         .available_bytes = place.device.available_bytes,
                         .product_rate = product_rate,
                         .resumed_step = trainer.steps_done() > 0 ? std::optional(trainer.steps_done()) : std::nullopt,
                         .part_epochs = part_epochs(trainer.batches(), run.schedule.steps)};
  std::string text = start_text(before);
  if (has_trained_text(run)) text += trained_text(run, before.device);
  if (options.verbose) text += details_text(run, memory);
  text.pop_back();  // the last line's end
  log_info("{}", text);
  for (const std::string& warning : start_warnings(before)) log_warning("{}", warning);
  if (run.step.balance.counts_first() && run.model.moe_layers() > 0) {
    log_info("balance.scope = step: every step{} first counts the experts' tokens in a forward-only pass",
             run.step.second_stage > 0 ? " of the first stage" : "");
  }
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
  command->add_flag("--resume", options->resume, "Continue from the newest good checkpoint in run.dir, bit for bit");
  command
      ->add_option(
          "--allow-change", options->allow_change,
          "With --resume: let this key differ from the checkpoint's; its value is given with --set (repeatable)")
      ->allow_extra_args(false)
      ->type_name("KEY");
  command->add_flag(
      "--dry-run", options->dry_run,
      "Print the lines that a run prints at its start, and what moe convert can make of its model, and stop");
  CLI::Option* find_rate_flag = command->add_flag(
      "--find-rate", options->find_rate,
      "Train short runs at rising learning rates from the same start, print their validation losses, and stop");
  add_number(*command, "--ranks", options->ranks, {0, 1024},
             "processes on this machine that share each step; 0: as many as a launcher has started, else one");
  add_number(*command, "--expert-parallel", options->expert_ranks, {1, 1024},
             "ranks that divide the routed experts of each layer among them; it divides the number of ranks");
  add_number(*command, "--pipeline", options->stages, {1, 1024},
             "stages of a pipeline that divide the layers among them; it divides the number of ranks");
  add_number(
      *command, "--hang-limit", options->hang_limit, {0, 1e6},
      "seconds without progress on any rank, after which a rank hangs and all end; 0: never; not given: 12, more "
      "in the first step and after longer pauses",
      false);
  add_number(*command, "--find-rate-steps", options->find_rate_steps, {0, 1 << 30},
             "steps of each short run; 0: a tenth of the run's, from 50 to 500")
      ->needs(find_rate_flag);
  command->add_flag("--verbose", options->verbose,
                    "Also print parameters, FLOPs and memory of each part, and the source of each loss's coefficient");
  command->add_flag_callback(
      "--keys",
      [] {
        print_text(keys_as_markdown(all_run_keys()));
        throw ExitStatus{0};
      },
      "Print every key of a run file with its values, default and meaning, and stop");
  add_device_options(*command, options->device);
  add_memory_option(*command, options->memory_limit);
  command->footer(kFooter);
  command->callback([options] {
    if (!options->find_rate) {
      ProcessRanks ranks(
          options->ranks,
          {.without_option = true, .after_loss = "; go on with --resume", .hang = hang_limits(*options)});
      return exit_with(ranks.run([&] {
        warn_of_repeated_keys(options->set);
        return train(*options, ranks);
      }));
    }
    warn_of_repeated_keys(options->set);
    if (options->ranks > 1) fail_usage("--find-rate trains with one rank; leave out --ranks");
    if (options->expert_ranks > 1) fail_usage("--find-rate trains with one rank; leave out --expert-parallel");
    if (options->stages > 1) fail_usage("--find-rate trains with one rank; leave out --pipeline");
    if (options->resume || options->dry_run) fail_usage("--find-rate takes neither --resume nor --dry-run");
    exit_with(find_rate(
        {.file = options->file, .set = options->set, .steps = options->find_rate_steps, .device = options->device}));
  });
}

}  // namespace moe
