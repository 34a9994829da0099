#include "study/study_file.h"

#include <algorithm>
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

}  // namespace

Study read_study(const fs::path& file, const std::vector<std::string>& set,
                 const std::function<int64_t(const std::string& folder)>& dataset_vocabulary) {
  Settings settings = Settings::load(file);
  for (const std::string& assignment : set) settings.set(assignment);
  Study study;
  study.dir = settings.get<std::string>("study.dir", "runs/study");
  study.title = settings.get<std::string>("study.title", file.stem().string());
  const auto seeds = settings.get<std::vector<int64_t>>("study.seeds", {1});
  const auto texts = settings.require<std::vector<std::string>>("study.systems");
  study.mask_sixteenths = settings.get<std::vector<int64_t>>("study.mask_sixteenths", {});
  study.switches = settings.get<bool>("study.switches", false);
  std::vector<System> systems;
  for (const std::string& text : texts) {
    systems.push_back(parse_system(settings, "study.systems", text));
    const std::string& name = systems.back().name;
    if (std::find(study.systems.begin(), study.systems.end(), name) != study.systems.end()) {
      settings.refuse("study.systems", fmt::format("names of their own, but {} is there twice", name));
    }
    study.systems.push_back(name);
  }
  for (const std::string& text : settings.get<std::vector<std::string>>("study.bars", {})) {
    const System bars = parse_system(settings, "study.bars", text);
    for (const std::string& name : bars.words) {
      if (std::find(study.systems.begin(), study.systems.end(), name) == study.systems.end()) {
        settings.refuse("study.bars", fmt::format("names of study.systems, but {} is none", name));
      }
    }
    study.bars.push_back({bars.name, bars.words});
  }
  for (const int64_t share : study.mask_sixteenths) {
    if (share < 0 || share > 8) settings.refuse("study.mask_sixteenths", "numbers from 0 to 8");
  }
  for (const int64_t seed : seeds) {
    for (const System& system : systems) {
      Settings run = Settings::load(file);
      for (const std::string& assignment : set) run.set(assignment);
      run.drop_section("study");
      for (const std::string& assignment : system.words) run.set(assignment);
      StudyJob job{.system = system.name, .seed = seed, .name = fmt::format("{}-seed{}", system.name, seed), .run = {}};
      run.set(fmt::format("train.seed={}", seed));
      run.set(fmt::format("run.dir={}", study.folder(job).string()));
      try {
        job.run = read_run_config(run, dataset_vocabulary);
      } catch (const UsageError& error) {
        fail_usage("system {} of {}: {}", system.name, file.string(), error.what());
      }
      study.jobs.push_back(std::move(job));
    }
  }
  return study;
}

}  // namespace moe
