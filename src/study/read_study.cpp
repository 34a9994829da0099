#include "study/read_study.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/paths.h"
#include "formats/json.h"
#include "model/cost.h"
#include "study/study_keys.h"
#include "train/read_keys.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

struct System {
  std::string name;
  std::vector<std::string> words;
};

/// "NAME: WORD WORD".
System parse_system(Settings& settings, const char* key, const std::string& text) {
  const size_t colon = text.find(':');
  System system{.name = text.substr(0, colon), .words = {}};
  const bool plain = !system.name.empty() && std::all_of(system.name.begin(), system.name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
  if (colon == std::string::npos || !plain) {
    settings.refuse(key, "a list of \"NAME: WORD WORD\", names of letters, digits, _, - and .");
  }
  std::istringstream words(text.substr(colon + 1));
  for (std::string word; words >> word;) system.words.push_back(word);
  return system;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<System> read_systems(Settings& settings, const StudyFile& file, Study& study) {
  std::vector<System> systems;
  for (const std::string& text : file.systems) {
    systems.push_back(parse_system(settings, "study.systems", text));
    const std::string& name = systems.back().name;
    if (contains(study.systems, name)) {
      settings.refuse("study.systems", fmt::format("different names, but {} is there twice", name));
    }
    study.systems.push_back(name);
  }
  if (systems.empty()) settings.refuse("study.systems", "at least one system");
  return systems;
}

void read_bars(Settings& settings, const StudyFile& file, Study& study) {
  std::vector<std::string> taken = {"systems", "curves", "figure4", "figure5"};  // plots of every study
  for (const std::string& text : file.bars) {
    const System bars = parse_system(settings, "study.bars", text);
    for (const std::string& name : bars.words) {
      if (!contains(study.systems, name)) {
        settings.refuse("study.bars", fmt::format("names of study.systems, but {} is not one", name));
      }
    }
    if (contains(taken, bars.name)) {
      settings.refuse("study.bars", fmt::format("different names, but there is another plot {}", bars.name));
    }
    taken.push_back(bars.name);
    study.bars.push_back({bars.name, bars.words});
  }
}

void check_seeds(const Settings& settings, const std::vector<int64_t>& seeds) {
  if (seeds.empty()) settings.refuse("study.seeds", "at least one seed");
  if (std::set<int64_t>(seeds.begin(), seeds.end()).size() < seeds.size()) {
    settings.refuse("study.seeds", "each seed once");
  }
}

void read_rates(const Settings& settings, Study& study) {
  if (study.reference.empty()) study.reference = study.systems.front();
  if (!contains(study.systems, study.reference)) settings.refuse("study.reference", "a name of study.systems");
  if (study.baseline.empty()) study.baseline = study.systems.front();
  if (!contains(study.systems, study.baseline)) settings.refuse("study.baseline", "a name of study.systems");
  if (study.budget != Budget::seconds || !path_exists(study.rates())) return;
  const std::string file = study.rates().string();
  try {
    const Json rates = read_json(file);
    for (const std::string& system : study.systems) {
      const double seconds = json_number(rates, system, file, 0);
      if (seconds > 0) study.seconds_per_step[system] = seconds;
    }
  } catch (const Error& error) {
    fail("{}; remove the file to measure the systems again", error.what());
  }
}

/// The cost of a step of the run, in units of the budget; 0: not known yet.
double step_cost(const Study& study, const std::string& system, const RunConfig& run) {
  if (study.budget == Budget::seconds) {
    const auto found = study.seconds_per_step.find(system);
    return found == study.seconds_per_step.end() ? 0 : found->second;
  }
  return static_cast<double>(exact_flops(run.model, run.data.sequence_length)) *
         static_cast<double>(run.data.rows_per_step);
}

/// The number of steps with the same cost as the reference's steps.
int64_t steps_within_budget(const Study& study, const StudyJob& job, const RunConfig& reference) {
  const double cost = step_cost(study, job.system, job.run), wanted = step_cost(study, study.reference, reference);
  const auto steps = static_cast<double>(reference.schedule.steps);
  if (cost <= 0 || wanted <= 0) return reference.schedule.steps;
  return std::llround(std::clamp(steps * wanted / cost, 1.0, static_cast<double>(kMostCount)));
}

/// The settings of the file and of the command line, with the system's keys over them, as a run of its own; with
/// `steps` steps, if given.
RunConfig read_job(const Study& study, const StudyJob& job, const fs::path& file, const std::vector<std::string>& set,
                   const System& system, const DatasetVocabulary& vocabulary, std::optional<int64_t> steps = {}) {
  Settings run = Settings::load(file);
  for (const std::string& assignment : set) run.set(assignment);
  run.drop_section("study");
  for (const std::string& assignment : system.words) run.set(assignment);
  for (const auto& [key, by] : {std::pair{"train.seed", "study.seeds"}, std::pair{"run.dir", "study.dir"}}) {
    const std::string where = run.where(key);
    if (where.starts_with("--set")) fail_usage("{}: a study sets {} itself, by {}", where, key, by);
  }
  const bool own_length = std::any_of(system.words.begin(), system.words.end(), [](const std::string& word) {
    return word.starts_with("train.steps=") || word.starts_with("train.epochs=");
  });
  if (study.budget != Budget::tokens && own_length && system.name != study.reference) {
    fail_usage("its keys say how long it trains, but study.budget = {} sets that by the steps of {}; leave them out",
               name(study.budget), study.reference);
  }
  if (steps) run.set(fmt::format("train.steps={}", *steps));
  run.set(fmt::format("train.seed={}", job.seed));
  run.set(fmt::format("run.dir={}", study.folder(job).string()));
  RunConfig config = read_run_config(run, vocabulary);
  if (config.schedule.hours > 0) {
    run.refuse("train.hours", "to be left out of a study; study.budget = \"seconds\" gives systems equal time");
  }
  return config;
}

/// Calls `read`; a UsageError names the system.
template <class Read>
void read_of_system(const std::string& system, const fs::path& file, const Read& read) {
  try {
    read();
  } catch (const UsageError& error) {
    fail_usage("system {} of {}: {}", system, file.string(), error.what());
  }
}

}  // namespace

Study read_study(const fs::path& file, const std::vector<std::string>& set, const DatasetVocabulary& vocabulary) {
  Settings settings = Settings::load(file);
  for (const std::string& assignment : set) settings.set(assignment);
  StudyFile keys;
  keys.title = file.stem().string();
  for (const KeyRow<StudyFile>& row : study_keys()) settings.know(row.key, row.also);
  read_rows(settings, study_keys(), keys, {});
  settings.finish("study");
  if (settings.given("study.dir") && keys.dir.empty()) {
    settings.refuse("study.dir", "the name of a folder");
  }
  Study study;
  study.dir = keys.dir;
  study.title = keys.title;
  study.budget = keys.budget;
  study.reference = keys.reference;
  study.baseline = keys.baseline;
  study.mask_sixteenths = keys.mask_sixteenths;
  study.switches = keys.switches;
  study.keep_checkpoints = keys.keep_checkpoints;
  check_seeds(settings, keys.seeds);
  const std::vector<System> systems = read_systems(settings, keys, study);
  read_rates(settings, study);
  read_bars(settings, keys, study);
  for (const int64_t seed : keys.seeds) {
    for (const System& system : systems) {
      StudyJob job{.system = system.name, .seed = seed, .name = fmt::format("{}-seed{}", system.name, seed), .run = {}};
      read_of_system(system.name, file, [&] { job.run = read_job(study, job, file, set, system, vocabulary); });
      study.jobs.push_back(std::move(job));
    }
  }
  if (study.budget == Budget::tokens) return study;
  const auto reference = std::find_if(study.jobs.begin(), study.jobs.end(),
                                      [&](const StudyJob& job) { return job.system == study.reference; });
  const RunConfig reference_run = reference->run;
  for (StudyJob& job : study.jobs) {
    const int64_t steps = steps_within_budget(study, job, reference_run);
    if (steps == job.run.schedule.steps) continue;
    const auto system =
        std::find_if(systems.begin(), systems.end(), [&](const System& one) { return one.name == job.system; });
    read_of_system(job.system, file, [&] { job.run = read_job(study, job, file, set, *system, vocabulary, steps); });
  }
  return study;
}

}  // namespace moe
