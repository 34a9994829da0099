#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/file_lock.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/evaluated_text.h"
#include "cli/exit_status.h"
#include "cli/number_option.h"
#include "cli/product_rate.h"
#include "cli/repeated_words.h"
#include "study/differences.h"
#include "study/fit.h"
#include "study/lengths.h"
#include "study/plan.h"
#include "study/plots.h"
#include "study/read_study.h"
#include "study/rows.h"
#include "study/study_keys.h"
#include "train/training_log.h"

namespace moe {
namespace {

struct StudyOptions {
  std::string file;
  std::vector<std::string> set;
  std::vector<std::string> only;
  double seconds = 0;
  bool dry_run = false;
  std::string plots;
  std::string csv, json;
  std::string fit;
  std::vector<std::string> lengths;  ///< STEPS=DIR
  DeviceOptions device;
};

const char* const kFooter = R"(
A study is a run file with a section [study]: dir, title, seeds, systems, grid, where_possible, budget, reference, baseline,
mask_sixteenths, switches, bars and keep_checkpoints (docs/study.md). `systems` is a list of "NAME: KEY=VALUE KEY=VALUE": the run file, with these
keys changed. Every system is trained with every seed. A job with a result in dir/results is skipped, and an interrupted
job continues from its checkpoint. Several processes may run one study, for instance one on each GPU: each trains the
jobs that no other has taken. Ctrl-C and SIGTERM write a checkpoint first (exit status 130 and 143); the same
command then continues the study.

Examples:
  moe study run configs/study/toy.toml
  moe study run configs/study/toy.toml --only gshard deepseekmoe --set train.steps=50 --set study.dir=runs/short
  moe study run configs/study/toy.toml --dry-run
  moe study show configs/study/toy.toml --plots plots
  moe study show configs/study/toy.toml --csv rows.csv
  moe study show configs/study/granularity.toml --fit model.granularity
  moe study show configs/study/crossing.toml --set 'study.seeds=[1,2,3]' --plots plots \
    --lengths 5270=runs/crossing/30s --lengths 10545=runs/crossing/60s)";

Study load(const StudyOptions& options) {
  if (!options.plots.empty()) check_output_folder(options.plots);
  for (const std::string& file : {options.csv, options.json}) {
    if (!file.empty() && file != "-") check_output_file(file);
  }
  if (options.csv == "-" && options.json == "-")
    fail_usage("--csv - and --json -: standard output can have one of them");
  Study study = read_study(options.file, options.set);
  for (const std::string& name : options.only) {
    if (std::find(study.systems.begin(), study.systems.end(), name) == study.systems.end()) {
      fail_usage("--only {}: {} has no such system, expected one of {}", name, options.file,
                 fmt::join(study.systems, ", "));
    }
  }
  if (!options.only.empty()) {
    std::erase_if(study.jobs, [&](const StudyJob& job) {
      return std::find(options.only.begin(), options.only.end(), job.system) == options.only.end();
    });
  }
  return study;
}

std::vector<JobResult> results_of(const Study& study) {
  std::vector<JobResult> results;
  for (const StudyJob& job : study.jobs) {
    if (study.lacks_rate(job.system)) continue;
    auto result = find_result(study, job);
    if (!result) continue;
    read_documents(study, job, *result);
    results.push_back(std::move(*result));
  }
  return results;
}

/// One study for each of --lengths.
void show_lengths(const StudyOptions& options) {
  if (!options.csv.empty() || !options.json.empty() || !options.fit.empty()) {
    fail_usage("--lengths prints its own table; leave --csv, --json and --fit out");
  }
  std::vector<StudyLength> lengths;
  for (const std::string& text : options.lengths) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      fail_usage("--lengths {}: expected STEPS=DIR, for instance 5270=runs/crossing/30s", text);
    }
    StudyOptions of_length = options;
    of_length.set.push_back("train.steps=" + text.substr(0, equals));
    of_length.set.push_back("study.dir=" + text.substr(equals + 1));
    StudyLength length{.study = load(of_length), .results = {}};
    length.results = results_of(length.study);
    if (length.results.empty()) fail("{} has no results yet", (length.study.dir / "results").string());
    lengths.push_back(std::move(length));
  }
  const std::vector<LengthCurve> curves = length_curves(lengths);
  print_text(length_table(curves));
  flush_output();
  if (options.plots.empty()) return;
  log_info("{}/{}", options.plots, write_length_plot(lengths.front().study.title, curves, options.plots));
}

/// The tables, and the rows for other programs in files, or on standard output in place of the tables.
void print_results(const StudyOptions& options, const Study& study, const std::vector<SystemSummary>& systems,
                   const std::vector<JobResult>& results, const std::vector<LossFit>& fits) {
  bool printed = false;
  for (const auto& [file, as_text] : {std::pair{options.csv, &rows_as_csv}, {options.json, &rows_as_json}}) {
    if (file.empty()) continue;
    const std::string text = as_text(study_rows(study, results));
    if (file == "-") {
      print_text(text);
      printed = true;
    } else {
      write_file(file, text);
    }
  }
  if (!printed) print_text(study_table(study, systems, results) + difference_table(study, systems));
  if (!printed && !fits.empty()) print_text(fit_table(fits, options.fit));
  flush_output();
}

void show(const StudyOptions& options, const Study& study) {
  const std::vector<JobResult> results = results_of(study);
  const bool unmeasured = std::any_of(study.jobs.begin(), study.jobs.end(),
                                      [&](const StudyJob& job) { return study.lacks_rate(job.system); });
  if (results.empty() && unmeasured) {
    fail("{} lacks the measured speeds that study.budget = \"seconds\" needs; run the study with this budget first",
         study.rates().string());
  }
  if (results.empty()) fail("{} has no results yet; run the study first", (study.dir / "results").string());
  if (results.size() < study.jobs.size()) log_info("{} of {} jobs have a result", results.size(), study.jobs.size());
  const auto systems = summarize(study, results);
  if (std::none_of(systems.begin(), systems.end(), [&](const auto& one) { return one.name == study.baseline; })) {
    log_info("no differences are shown: {} (study.baseline) has no result among these", study.baseline);
  }
  std::vector<LossFit> fits;
  if (!options.fit.empty()) fits = fit_study(study, results, options.fit);
  print_results(options, study, systems, results, fits);
  if (options.plots.empty() || systems.empty()) return;
  for (const std::string& name : write_plots(study, systems, options.plots)) log_info("{}/{}", options.plots, name);
  if (fits.empty()) return;
  log_info("{}/{}", options.plots, write_fit_plot(study, fits, options.fit, options.plots));
}

/// Settles what depends on the device.
void prepare(Study& study, const Compute& compute) {
  for (StudyJob& job : study.jobs) {
    job.run.step.logits_per_chunk = logits_per_chunk(compute.kind, job.run.model.vocab_size);
  }
}

/// Trains the jobs without a result, except those that another process is training. Returns false if a signal stopped
/// it.
bool run_jobs(const StudyOptions& options, const Study& study, Compute& compute) {
  const double started = steady_seconds();
  size_t number = 0;
  double longest = 0;
  make_folder(study.rates_lock().parent_path());
  for (const StudyJob& job : study.jobs) {
    ++number;
    if (InterruptGuard::signal() != 0) return false;
    FileLock lock(study.lock(job));
    if (!lock.try_lock()) {
      log_info("{} ({} of {}) is left to the process that is training it", job.name, number, study.jobs.size());
      continue;
    }
    if (find_result(study, job)) {
      log_info("{} ({} of {}) is done", job.name, number, study.jobs.size());
      remove_checkpoints(study, job);
      continue;
    }
    const double begin = steady_seconds();
    if (options.seconds > 0 && longest > 0 && begin - started + longest > options.seconds) {
      log_info("{} and later jobs would not end within {} s: start them with another call", job.name, options.seconds);
      break;
    }
    log_info("{} ({} of {})", job.name, number, study.jobs.size());
    const auto result = run_job(study, job, *compute.device, *compute.backend, compute.pool);
    if (!result) return false;
    longest = std::max(longest, steady_seconds() - begin);
    if (result->diverged > 0) {
      log_info("{}: diverged at step {}; the study continues with the next job", job.name, result->diverged);
    } else {
      log_info("{}: loss {:.4f} after {:.0f} s", job.name, result->loss, result->seconds);
    }
  }
  return true;
}

/// Takes the lock, and waits until it is free. Returns false if a signal came first.
bool wait_for(FileLock& lock) {
  for (bool said = false; !lock.try_lock(); said = true) {
    if (!said) log_info("another process measures the rates of this study; waiting for it");
    if (InterruptGuard::signal() != 0) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  return true;
}

/// Measures the systems whose number of steps depends on it (study.budget = "seconds"), and keeps the rates. One
/// process at a time: all processes of a study train by the same rates. Returns false if a signal stopped it.
bool measure_rates(const StudyOptions& options, const Study& study, Compute& compute) {
  if (study.budget != Budget::seconds) return true;
  make_folder(study.rates_lock().parent_path());
  FileLock lock(study.rates_lock());
  if (!wait_for(lock)) return false;
  StudyOptions every = options;
  every.only.clear();
  bool measured = false;
  Study all = load(every);
  Json rates = Json::object();
  for (const auto& [system, seconds] : all.seconds_per_step) rates[system] = seconds;
  prepare(all, compute);
  for (const StudyJob& job : all.jobs) {
    const bool wanted =
        job.system == study.reference || std::any_of(study.jobs.begin(), study.jobs.end(),
                                                     [&](const StudyJob& one) { return one.system == job.system; });
    if (!wanted || rates.contains(job.system)) continue;
    const double seconds = measure_rate(job, *compute.device, *compute.backend);
    log_info("{}: {:.3f} s a step", job.system, seconds);
    rates[job.system] = seconds;
    measured = true;
  }
  if (measured) write_file(study.rates(), json_text(rates, 1) + "\n");
  return true;
}

int run(const StudyOptions& options) {
  Study study = load(options);
  Compute compute = make_compute(options.device);
  if (options.dry_run) {
    std::map<DType, double> rates;  // each is measured once, so that the hours of systems are comparable
    const auto rate = [&](DType dtype) {
      const auto [found, is_new] = rates.try_emplace(dtype);
      if (is_new) found->second = measured_product_rate(compute, dtype);
      return found->second;
    };
    print_text(plan_table(study, plan_systems(study, place_of(*compute.device), rate)));
    return 0;
  }
  const InterruptGuard guard;
  require_kept_checkpoints(study);
  prepare(study, compute);
  check_jobs(study, *compute.device);
  bool going_on = measure_rates(options, study, compute);
  if (going_on && study.budget == Budget::seconds) {
    study = load(options);  // now with the rates
    prepare(study, compute);
  }
  going_on = going_on && run_jobs(options, study, compute);
  if (!going_on) {
    log_info("stopped by a signal; the same command continues the study");
    return 128 + InterruptGuard::signal();
  }
  show(options, study);
  return 0;
}

void add_common(CLI::App& command, StudyOptions& options) {
  command.add_option("FILE", options.file, "Study file (TOML), for instance configs/study/toy.toml")->required();
  command.add_option("--set", options.set, "Override a key of the file: train.steps=100 (repeatable)")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command.add_option("--only", options.only, "only these systems")->type_name("NAME ...");
  command.add_option("--plots", options.plots, "also draw the results, as SVG and PDF files in this folder")
      ->type_name("DIR");
  command.footer(kFooter);
}

}  // namespace

void add_study_command(CLI::App& app) {
  CLI::App* study = app.add_subcommand("study", "Trains systems side by side and compares them");
  study->require_subcommand(1);
  study->add_flag_callback(
      "--keys",
      [] {
        std::vector<ListedKey> keys;
        list_keys(study_keys(), keys);
        print_text(keys_as_markdown(keys));
        throw ExitStatus{0};
      },
      "Print every key of [study] with its values, default and meaning, and stop");
  auto options = std::make_shared<StudyOptions>();
  CLI::App* run_command =
      study->add_subcommand("run", "Trains the systems that have no result yet, then prints the table");
  add_common(*run_command, *options);
  add_number(
      *run_command, "--max-seconds", options->seconds, {.least = 0, .most = 1e9},
      "do not start a job that would end after this time, judged by the longest job so far; the first job always "
      "starts; 0: no limit");
  run_command->add_flag("--dry-run", options->dry_run,
                        "print parameters, FLOPs, time and memory of each system, and train nothing");
  add_device_options(*run_command, options->device);
  run_command->callback([options] {
    warn_of_repeated_keys(options->set);
    exit_with(run(*options));
  });
  CLI::App* show_command = study->add_subcommand("show", "Prints the table of the existing results");
  add_common(*show_command, *options);
  show_command
      ->add_option("--csv", options->csv,
                   "also write a row for each system, seed and domain to this file; -: to standard output, instead of "
                   "the tables")
      ->type_name("FILE");
  add_json_option(*show_command, options->json, "the same rows as JSON");
  show_command
      ->add_option(
          "--fit", options->fit,
          "also fit the loss as a curve in this key of study.grid: its lowest point with an interval, its error")
      ->type_name("KEY");
  show_command
      ->add_option(
          "--lengths", options->lengths,
          "the study as it was trained with other numbers of steps, each in its folder: the lowest loss of each "
          "system against the seconds of training (repeatable)")
      ->allow_extra_args(false)
      ->type_name("STEPS=DIR");
  show_command->callback([options] {
    warn_of_repeated_keys(options->set);
    if (!options->lengths.empty()) return show_lengths(*options);
    show(*options, load(*options));
  });
}

}  // namespace moe
