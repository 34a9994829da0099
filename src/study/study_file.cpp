#include "study/study_file.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "base/error.h"

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

std::vector<System> read_systems(Settings& settings, Study& study) {
  std::vector<System> systems;
  for (const std::string& text : settings.require<std::vector<std::string>>("study.systems")) {
    systems.push_back(parse_system(settings, "study.systems", text));
    const std::string& name = systems.back().name;
    if (contains(study.systems, name)) {
      settings.refuse("study.systems", fmt::format("names of their own, but {} is there twice", name));
    }
    study.systems.push_back(name);
  }
  if (systems.empty()) settings.refuse("study.systems", "at least one system");
  return systems;
}

void read_bars(Settings& settings, Study& study) {
  std::vector<std::string> taken = {"systems", "curves", "figure4", "figure5"};  // plots of every study
  for (const std::string& text : settings.get<std::vector<std::string>>("study.bars", {})) {
    const System bars = parse_system(settings, "study.bars", text);
    for (const std::string& name : bars.words) {
      if (!contains(study.systems, name)) {
        settings.refuse("study.bars", fmt::format("names of study.systems, but {} is none", name));
      }
    }
    if (contains(taken, bars.name)) {
      settings.refuse("study.bars", fmt::format("names of their own, but there is another plot {}", bars.name));
    }
    taken.push_back(bars.name);
    study.bars.push_back({bars.name, bars.words});
  }
}

std::vector<int64_t> read_seeds(Settings& settings) {
  const auto seeds = settings.get<std::vector<int64_t>>("study.seeds", {1});
  if (seeds.empty()) settings.refuse("study.seeds", "at least one seed");
  if (std::set<int64_t>(seeds.begin(), seeds.end()).size() < seeds.size()) {
    settings.refuse("study.seeds", "each seed once");
  }
  return seeds;
}

/// The file's settings and the command line's, with the system's over them, as a run of its own.
RunConfig read_job(const Study& study, const StudyJob& job, const fs::path& file, const std::vector<std::string>& set,
                   const System& system, const std::function<int64_t(const std::string&)>& dataset_vocabulary) {
  Settings run = Settings::load(file);
  for (const std::string& assignment : set) run.set(assignment);
  run.drop_section("study");
  for (const std::string& assignment : system.words) run.set(assignment);
  for (const auto& [key, by] : {std::pair{"train.seed", "study.seeds"}, std::pair{"run.dir", "study.dir"}}) {
    const std::string where = run.where(key);
    if (where.starts_with("--set")) fail_usage("{}: a study sets {} itself, by {}", where, key, by);
  }
  run.set(fmt::format("train.seed={}", job.seed));
  run.set(fmt::format("run.dir={}", study.folder(job).string()));
  return read_run_config(run, dataset_vocabulary);
}

}  // namespace

Study read_study(const fs::path& file, const std::vector<std::string>& set,
                 const std::function<int64_t(const std::string& folder)>& dataset_vocabulary) {
  Settings settings = Settings::load(file);
  for (const std::string& assignment : set) settings.set(assignment);
  Study study;
  study.dir = settings.get<std::string>("study.dir", "runs/study");
  study.title = settings.get<std::string>("study.title", file.stem().string());
  const std::vector<int64_t> seeds = read_seeds(settings);
  const std::vector<System> systems = read_systems(settings, study);
  read_bars(settings, study);
  study.mask_sixteenths = settings.get<std::vector<int64_t>>("study.mask_sixteenths", {});
  for (const int64_t share : study.mask_sixteenths) {
    if (share < 0 || share > 8) settings.refuse("study.mask_sixteenths", "numbers from 0 to 8");
  }
  study.switches = settings.get<bool>("study.switches", false);
  study.keep_checkpoints = settings.get<bool>("study.keep_checkpoints", false);
  settings.finish("study");
  for (const int64_t seed : seeds) {
    for (const System& system : systems) {
      StudyJob job{.system = system.name, .seed = seed, .name = fmt::format("{}-seed{}", system.name, seed), .run = {}};
      try {
        job.run = read_job(study, job, file, set, system, dataset_vocabulary);
      } catch (const UsageError& error) {
        fail_usage("system {} of {}: {}", system.name, file.string(), error.what());
      }
      study.jobs.push_back(std::move(job));
    }
  }
  return study;
}

}  // namespace moe
