#include "study/systems.h"

#include <algorithm>
#include <set>
#include <sstream>

namespace moe {
namespace {

bool is_plain(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
}

/// One key with its values.
struct Axis {
  std::string name, key;
  std::vector<std::string> values;
};

/// "NAME: KEY=VALUE,VALUE".
Axis parse_axis(const Settings& settings, const std::string& text) {
  constexpr const char* kKey = "study.grid";
  const System parsed = parse_system(settings, kKey, text);
  const auto refuse = [&] {
    settings.refuse(kKey, "a list of \"NAME: KEY=VALUE,VALUE\", one key with its values in each");
  };
  if (parsed.words.size() != 1) refuse();
  const std::string& word = parsed.words.front();
  const size_t equals = word.find('=');
  if (equals == std::string::npos || equals == 0) refuse();
  Axis axis{.name = parsed.name, .key = word.substr(0, equals), .values = {}};
  std::istringstream values(word.substr(equals + 1));
  for (std::string value; std::getline(values, value, ',');) {
    if (!is_plain(value)) {
      settings.refuse(kKey, fmt::format("values of letters, digits, _, - and ., but {} has \"{}\"", axis.key, value));
    }
    axis.values.push_back(value);
  }
  if (axis.values.empty()) refuse();
  return axis;
}

}  // namespace

System parse_system(const Settings& settings, const char* key, const std::string& text) {
  const size_t colon = text.find(':');
  System system{.name = text.substr(0, colon), .words = {}};
  if (colon == std::string::npos || !is_plain(system.name)) {
    settings.refuse(key, "a list of \"NAME: WORD WORD\", names of letters, digits, _, - and .");
  }
  std::istringstream words(text.substr(colon + 1));
  for (std::string word; words >> word;) system.words.push_back(word);
  return system;
}

std::vector<System> read_systems(const Settings& settings, const StudyFile& file) {
  std::vector<System> systems;
  for (const std::string& text : file.systems) systems.push_back(parse_system(settings, "study.systems", text));
  if (systems.empty() && file.grid.empty()) {
    const std::string expected = "at least one system, or study.grid";
    if (!settings.given("study.systems")) settings.fail_missing("study.systems", expected);
    settings.refuse("study.systems", expected);
  }
  if (systems.empty()) systems.emplace_back();  // the run file itself
  for (System& system : systems) system.base = system.name;
  for (const std::string& text : file.grid) {
    const Axis axis = parse_axis(settings, text);
    std::vector<System> product;
    for (const System& system : systems) {
      for (const std::string& value : axis.values) {
        System& combined = product.emplace_back(system);
        combined.name += (combined.name.empty() ? "" : "-") + axis.name + value;
        combined.words.push_back(axis.key + "=" + value);
        combined.grid.push_back({.name = axis.name, .key = axis.key, .value = value});
      }
    }
    systems = std::move(product);
  }
  std::set<std::string> names;
  for (const System& system : systems) {
    if (names.insert(system.name).second) continue;
    settings.refuse(file.grid.empty() ? "study.systems" : "study.grid",
                    fmt::format("different names, but {} is there twice", system.name));
  }
  return systems;
}

}  // namespace moe
