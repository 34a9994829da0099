#include "study/read_study.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/paths.h"
#include "formats/json.h"
#include "model/cost.h"
#include "study/study_keys.h"
#include "study/systems.h"
#include "train/read_keys.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void read_bars(const Settings& settings, const StudyFile& file, Study& study) {
  std::vector<std::string> taken = {"systems", "differences", "curves", "figure4", "figure5"};  // plots of every study
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

/// The words of the system behind those of study.where_possible that it takes; what it does not take goes to
/// `left_out`.
struct Words {
  std::vector<std::string> words, left_out;
};

std::string key_of(const std::string& assignment) { return assignment.substr(0, assignment.find('=')); }

/// How a job is read: the file, the command line, and the study's own keys.
struct Reader {
  const Study& study;
  const fs::path& file;
  const std::vector<std::string>& set;
  const DatasetVocabulary& vocabulary;

  Settings settings_of(const StudyJob& job, const std::vector<std::string>& words) const;
  Words words_of(const StudyJob& job, const System& system, const std::vector<std::string>& where_possible) const;
  RunConfig read(const StudyJob& job, const System& system, const std::vector<std::string>& words,
                 std::optional<int64_t> steps = {}) const;
};

Settings Reader::settings_of(const StudyJob& job, const std::vector<std::string>& words) const {
  Settings run = Settings::load(file);
  for (const std::string& assignment : set) run.set(assignment);
  run.drop_section("study");
  for (const std::string& assignment : words) run.set(assignment);
  for (const auto& [key, by] : {std::pair{"train.seed", "study.seeds"}, std::pair{"run.dir", "study.dir"}}) {
    const std::string where = run.where(key);
    if (where.starts_with("--set")) fail_usage("{}: a study sets {} itself, by {}", where, key, by);
  }
  run.set(fmt::format("train.seed={}", job.seed));
  run.set(fmt::format("run.dir={}", study.folder(job).string()));
  return run;
}

Words Reader::words_of(const StudyJob& job, const System& system,
                       const std::vector<std::string>& where_possible) const {
  Words result{.words = system.words, .left_out = {}};
  if (where_possible.empty()) return result;
  Settings plain = settings_of(job, system.words);
  read_run_config(plain, vocabulary);  // what the system itself lacks is not the fault of an override
  for (const std::string& assignment : where_possible) {
    const bool own = std::any_of(system.words.begin(), system.words.end(),
                                 [&](const std::string& word) { return key_of(word) == key_of(assignment); });
    std::vector<std::string> with = result.words;
    with.insert(with.end() - static_cast<std::ptrdiff_t>(system.words.size()), assignment);
    try {
      Settings run = settings_of(job, with);
      read_run_config(run, vocabulary);
      if (!own) result.words = with;
    } catch (const UsageError& error) {
      if (!own) result.left_out.push_back(fmt::format("{}: {}", assignment, error.what()));
    }
  }
  return result;
}

/// The system with these words, as a run of its own; with `steps` steps, if given.
RunConfig Reader::read(const StudyJob& job, const System& system, const std::vector<std::string>& words,
                       std::optional<int64_t> steps) const {
  Settings run = settings_of(job, words);
  const bool own_length = std::any_of(system.words.begin(), system.words.end(), [](const std::string& word) {
    return word.starts_with("train.steps=") || word.starts_with("train.epochs=");
  });
  if (study.budget != Budget::tokens && own_length && system.name != study.reference) {
    fail_usage("its keys say how long it trains, but study.budget = {} sets that by the steps of {}; leave them out",
               name(study.budget), study.reference);
  }
  if (steps) run.set(fmt::format("train.steps={}", *steps));
  RunConfig config = read_run_config(run, vocabulary);
  if (config.schedule.hours > 0) {
    run.refuse("train.hours", "to be left out of a study; study.budget = \"seconds\" gives systems equal time");
  }
  return config;
}

/// An override that no system takes is a mistake of its own.
void refuse_unused(const Settings& settings, const std::vector<std::string>& where_possible,
                   const std::map<std::string, Words>& words) {
  for (const std::string& assignment : where_possible) {
    std::string why;
    size_t refused = 0;
    for (const auto& [system, found] : words) {
      for (const std::string& left_out : found.left_out) {
        if (!left_out.starts_with(assignment + ": ")) continue;
        ++refused;
        if (why.empty()) why = left_out.substr(assignment.size() + 2);
      }
    }
    if (refused < words.size()) continue;
    settings.refuse("study.where_possible",
                    fmt::format("assignments that some system takes, but none takes {} ({})", assignment, why));
  }
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
  const std::vector<System> systems = read_systems(settings, keys);
  for (const System& system : systems) study.systems.push_back(system.name);
  read_rates(settings, study);
  read_bars(settings, keys, study);
  const Reader reader{.study = study, .file = file, .set = set, .vocabulary = vocabulary};
  std::map<std::string, Words> words;
  for (const int64_t seed : keys.seeds) {
    for (const System& system : systems) {
      StudyJob job;
      job.system = system.name;
      job.base = system.base;
      job.grid = system.grid;
      job.seed = seed;
      job.name = fmt::format("{}-seed{}", system.name, seed);
      read_of_system(system.name, file, [&] {
        const auto [found, is_new] = words.try_emplace(system.name);
        if (is_new) found->second = reader.words_of(job, system, keys.where_possible);
        job.left_out = found->second.left_out;
        job.run = reader.read(job, system, found->second.words);
      });
      study.jobs.push_back(std::move(job));
    }
  }
  refuse_unused(settings, keys.where_possible, words);
  if (study.budget == Budget::tokens) return study;
  const auto reference = std::find_if(study.jobs.begin(), study.jobs.end(),
                                      [&](const StudyJob& job) { return job.system == study.reference; });
  const RunConfig reference_run = reference->run;
  for (StudyJob& job : study.jobs) {
    const int64_t steps = steps_within_budget(study, job, reference_run);
    if (steps == job.run.schedule.steps) continue;
    const auto system =
        std::find_if(systems.begin(), systems.end(), [&](const System& one) { return one.name == job.system; });
    read_of_system(job.system, file, [&] { job.run = reader.read(job, *system, words.at(job.system).words, steps); });
  }
  return study;
}

}  // namespace moe
