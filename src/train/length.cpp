#include "train/length.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/median.h"
#include "base/paths.h"
#include "data/batch_source.h"
#include "data/shards.h"
#include "train/read_keys.h"
#include "train/run_keys.h"

namespace moe {
namespace {

constexpr std::string_view kLengths[] = {"train.steps", "train.epochs", "train.hours"};
constexpr int64_t kGuessedSteps = 10000;  // steps for hours, until a rate is measured

/// The keys that give the length: those of `--set` if there are any, else the file's. A 0 counts as not given.
std::vector<std::string_view> given_lengths(const Settings& settings, const Schedule& schedule) {
  const auto says = [&](std::string_view key) {
    if (!settings.given(key)) return false;
    return key == "train.steps" || (key == "train.epochs" ? schedule.epochs : schedule.hours) > 0;
  };
  std::vector<std::string_view> given, of_set;
  for (const std::string_view key : kLengths) {
    if (!says(key)) continue;
    given.push_back(key);
    if (settings.overridden(key)) of_set.push_back(key);
  }
  return of_set.empty() ? given : of_set;
}

int64_t steps_of_epochs(const Settings& settings, const RunConfig& run, const RowsPerEpoch& rows_per_epoch) {
  const auto rows = static_cast<double>(rows_per_epoch(run.data, run.seed));
  const double steps = std::ceil(run.schedule.epochs * rows / static_cast<double>(run.data.rows_per_step));
  if (steps > static_cast<double>(kMostCount)) {
    settings.refuse("train.epochs", fmt::format("so few that they are at most {} steps", kMostCount));
  }
  return static_cast<int64_t>(steps);
}

}  // namespace

bool is_length(std::string_view key) {
  return std::find(std::begin(kLengths), std::end(kLengths), key) != std::end(kLengths);
}

void read_length(Settings& settings, RunConfig& run, const RowsPerEpoch& rows_per_epoch) {
  Schedule& schedule = run.schedule;
  read_rows(settings, rows_before(schedule_keys(), "optimizer.learning_rate"), schedule, run.model);
  const std::vector<std::string_view> given = given_lengths(settings, schedule);
  if (given.empty()) {
    keep_mistake_of(settings, "train.steps", [&] {
      settings.fail_missing("train.steps", "an integer of 1 or more (or give train.epochs or train.hours)");
    });
  } else if (given.size() > 1) {
    keep_mistake_of(settings, given.back(), [&] {
      fail_usage("{}: {} is given and so is {}, expected one of train.steps, train.epochs and train.hours",
                 settings.where(given.back()), given.back(), given.front());
    });
  }
  const std::string_view key = given.size() == 1 ? given.front() : "train.steps";
  if (key == "train.hours") {
    schedule.steps = kGuessedSteps;
  } else {
    schedule.hours = 0;
  }
  if (key == "train.epochs") {
    schedule.steps = 1;
    keep_mistake_of(settings, key, [&] {
      // No dataset is opened for settings that are refused anyway.
      if (!settings.has_mistakes()) schedule.steps = steps_of_epochs(settings, run, rows_per_epoch);
    });
  }
  schedule.epochs = 0;
  schedule.steps = std::max<int64_t>(schedule.steps, 1);
  settings.resolve("train.steps", schedule.steps);
  settings.resolve("train.epochs", 0.0);
  settings.resolve("train.hours", schedule.hours);
}

double measure_step_seconds(const RunConfig& run, const MemoryPlan& plan, Device& device, Backend& backend,
                            const std::function<Batch(int64_t step, int64_t microbatch)>& batch) {
  constexpr int64_t kWarmUp = 3, kMeasured = 7;
  TrainingStep step(run.model, run.step, plan, device, backend);
  step.initialize(run.seed, run.model.initializer_range);
  std::vector<double> seconds;
  for (int64_t k = 1; k <= kWarmUp + kMeasured; ++k) {
    const double started = steady_seconds();
    step.accumulate([&](int64_t microbatch) { return batch(k - 1, microbatch); }, k);
    step.update(k, 0);
    if (k > kWarmUp) seconds.push_back(steady_seconds() - started);
  }
  return median(std::move(seconds));
}

std::optional<int64_t> steps_of_run(const fs::path& folder) {
  if (!path_exists(folder / "run.toml")) return std::nullopt;
  Settings settings = Settings::load(folder / "run.toml");
  return settings.find<int64_t>("train.steps");
}

int64_t steps_within(double seconds, double seconds_per_step) {
  const double steps = std::floor(seconds / std::max(seconds_per_step, 1e-9));
  if (steps > static_cast<double>(kMostCount)) {
    fail_usage("train.hours is {}, which at {:.3g} s a step is {:.3g} steps, expected so few that they are at most {}",
               seconds / 3600, seconds_per_step, steps, kMostCount);
  }
  return static_cast<int64_t>(std::max(steps, 1.0));
}

}  // namespace moe
