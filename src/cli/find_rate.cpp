#include "cli/find_rate.h"

#include <algorithm>
#include <cmath>

#include "base/interrupt.h"
#include "base/log.h"
#include "base/output.h"
#include "study/rate_search.h"
#include "study/read_study.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

bool is_about(const std::string& assignment, const char* key) { return assignment.starts_with(std::string(key) + "="); }

/// The settings of the short runs: without what a study sets itself, and without what a short run does not need.
std::vector<std::string> short_run(const FindRateOptions& options, const RunConfig& run, int64_t steps) {
  std::vector<std::string> set = options.set;
  std::erase_if(set, [](const std::string& assignment) {
    return is_about(assignment, "run.dir") || is_about(assignment, "train.seed") ||
           is_about(assignment, "optimizer.learning_rate");
  });
  std::vector<std::string> rates;
  for (const double rate : rates_around(run.schedule.peak)) rates.push_back(fmt::format("{:.4g}", rate));
  set.insert(set.end(), {fmt::format("study.dir={}", rate_folder(run).string()),
                         fmt::format("study.seeds=[{}]", run.seed), "study.systems=[]", "study.budget=tokens",
                         fmt::format("study.grid=[\"rate: optimizer.learning_rate={}\"]", fmt::join(rates, ",")),
                         fmt::format("train.steps={}", steps), "train.epochs=0", "train.hours=0", "eval.every=0",
                         "checkpoint.every=0", "checkpoint.minutes=0", "sample.prompts=[]", "run.on_end="});
  // As large a part of the short run, also where the file gives a number of steps.
  const double part = static_cast<double>(steps) / static_cast<double>(run.schedule.steps);
  set.push_back(
      fmt::format("schedule.warmup_steps={}", std::llround(part * static_cast<double>(run.schedule.warmup_steps))));
  return set;
}

}  // namespace

int find_rate(const FindRateOptions& options) {
  Settings settings = Settings::load(options.file);
  for (const std::string& assignment : options.set) settings.set(assignment);
  settings.drop_section("study");
  const RunConfig run = read_run_config(settings);
  if (run.data.train.empty() || run.data.valid.empty()) {
    fail_usage(
        "--find-rate needs data.train and data.valid, datasets that `moe data` made: it compares validation losses");
  }
  if (run.step.objective != Objective::next_token) {
    fail_usage("--find-rate compares losses of text, but train.objective is {}; try rates with `moe study`",
               name(run.step.objective));
  }
  const int64_t tenth = std::clamp<int64_t>(run.schedule.steps / 10, 50, 500);
  const int64_t steps = options.steps > 0 ? options.steps : std::min(tenth, run.schedule.steps);
  Study study = read_study(options.file, short_run(options, run, steps));
  Compute compute = make_compute(options.device);
  for (StudyJob& job : study.jobs) {
    job.run.step.logits_per_chunk = logits_per_chunk(compute.kind, job.run.model.vocab_size);
  }
  check_jobs(study, *compute.device);
  const InterruptGuard guard;
  RateSearch search(run.schedule.peak);
  for (const StudyJob& job : study.jobs) {
    if (search.done()) break;
    log_info("learning rate {:.4g}: {} steps", job.run.schedule.peak, steps);
    auto result = run_job(study, job, *compute.device, *compute.backend, compute.pool);
    if (!result) {
      log_info("stopped by a signal; the same command continues");
      return 128 + InterruptGuard::signal();
    }
    read_documents(study, job, *result);
    search.add(job.run.schedule.peak, std::move(*result));
  }
  print_text(search.text(steps, run.schedule.steps));
  return 0;
}

}  // namespace moe
