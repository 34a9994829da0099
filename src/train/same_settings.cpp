#include "train/same_settings.h"

#include <map>

#include "train/read_run_config.h"

namespace moe {
namespace {

std::map<std::string, std::string> values_of(const std::string& resolved) {
  std::map<std::string, std::string> values;
  for (const TomlEntry& entry : parse_toml(resolved, "settings")) values[entry.key] = toml_text(entry.value);
  values.erase("run.dir");
  return values;
}

}  // namespace

std::vector<KeyDifference> differing_keys(const std::string& kept, const RunConfig& run) {
  Settings settings = Settings::parse(kept, "the kept settings");
  const RunConfig then = read_run_config(settings, [&](const std::string&) { return run.model.vocab_size; },
                                         dataset_rows_per_epoch, {.like = &run});
  const std::map<std::string, std::string> before = values_of(then.resolved);
  std::map<std::string, std::string> now = values_of(run.resolved);
  std::vector<KeyDifference> differences;
  for (const auto& [key, value] : before) {
    if (now[key] != value) differences.push_back({key, value, now[key]});
    now.erase(key);
  }
  for (const auto& [key, value] : now) differences.push_back({key, "", value});
  return differences;
}

std::string differences_text(const std::vector<KeyDifference>& differences) {
  const auto said = [](const std::string& value) { return value.empty() ? std::string("absent") : value; };
  std::string text;
  for (const KeyDifference& difference : differences) {
    text += fmt::format("{}{} is {} there and {} here", text.empty() ? "" : ", ", difference.key, said(difference.kept),
                        said(difference.here));
  }
  return text;
}

}  // namespace moe
