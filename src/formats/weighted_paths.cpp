#include "formats/weighted_paths.h"

#include <algorithm>
#include <cmath>

#include <toml++/toml.h>

#include "base/error.h"
#include "formats/toml_scalar.h"

namespace moe {
namespace {

[[noreturn]] void fail_form(const std::string& where) {
  fail_usage(
      "{}: expected a path, or a list such as [\"A\", \"B\"] or [{{path = \"A\", weight = 0.7}}, {{path = \"B\", "
      "weight = 0.3}}]",
      where);
}

WeightedPath entry_of(const toml::node& node, const std::string& where) {
  if (const auto* path = node.as_string(); path != nullptr && !path->get().empty()) {
    return {.path = path->get(), .weight = 0};
  }
  const toml::table* table = node.as_table();
  if (table == nullptr) fail_form(where);
  WeightedPath entry;
  for (const auto& [name, value] : *table) {
    if (name.str() == "path" && value.is_string()) {
      entry.path = value.as_string()->get();
    } else if (name.str() == "weight" && value.is_number()) {
      // Not value<double>(), which gives nothing for integers that a double rounds.
      const toml::value<int64_t>* const whole = value.as_integer();
      entry.weight = whole != nullptr ? static_cast<double>(whole->get()) : value.as_floating_point()->get();
    } else {
      fail_form(where);
    }
  }
  if (entry.path.empty()) fail_form(where);
  if (!(entry.weight > 0) || !std::isfinite(entry.weight)) {
    fail_usage("{}: the weight of {} is {}, expected a number above 0", where, entry.path, entry.weight);
  }
  return entry;
}

/// Weights beyond these could not be told apart when they are divided by their sum.
void check_weights(const std::vector<WeightedPath>& paths, const std::string& where) {
  constexpr double kMost = 1e30, kLeastShare = 0x1p-32;
  double sum = 0;
  for (const WeightedPath& path : paths) {
    if (path.weight > kMost)
      fail_usage("{}: the weight of {} is {}, expected at most {}", where, path.path, path.weight, kMost);
    sum += path.weight;
  }
  for (const WeightedPath& path : paths) {
    if (path.weight > 0 && path.weight < kLeastShare * sum) {
      fail_usage("{}: the weight of {} is {}, which is less than 1 / 2^32 of their sum; leave it out", where, path.path,
                 path.weight);
    }
  }
}

}  // namespace

std::string weighted_paths_text(const std::vector<WeightedPath>& paths) {
  std::vector<std::string> entries;
  for (const WeightedPath& path : paths) {
    entries.push_back(
        path.weight == 0 ? toml_quoted(path.path)
                         : fmt::format("{{path = {}, weight = {}}}", toml_quoted(path.path), toml_number(path.weight)));
  }
  return fmt::format("[{}]", fmt::join(entries, ", "));
}

bool is_weighted_paths(std::string_view text) {
  if (!text.starts_with('[')) return false;
  text.remove_prefix(1);
  text = text.substr(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  return text.starts_with('{') || text.starts_with('"') || text.starts_with('\'');
}

std::vector<WeightedPath> parse_weighted_paths(std::string_view text, const std::string& where) {
  if (!is_weighted_paths(text)) return {{.path = std::string(text), .weight = 1}};
  try {
    const auto table = toml::parse("value = " + std::string(text));
    const toml::array* list = table.size() == 1 ? table["value"].as_array() : nullptr;
    if (list == nullptr || list->empty()) fail_form(where);
    std::vector<WeightedPath> paths;
    for (const toml::node& node : *list) paths.push_back(entry_of(node, where));
    const auto with_size = std::count_if(paths.begin(), paths.end(), [](const auto& path) { return path.weight == 0; });
    if (with_size != 0 && with_size != std::ssize(paths)) fail_form(where);
    check_weights(paths, where);
    return paths;
  } catch (const toml::parse_error&) {
    fail_form(where);
  }
}

}  // namespace moe
