#include "train/freeze.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>

#include "base/error.h"

namespace moe {
namespace {

constexpr std::string_view kLayers = "layers.";

/// A name of train.freeze.
struct Pattern {
  int64_t first = -1, last = -1;  ///< layers; -1: a parameter outside the layers
  std::string_view name;          ///< within the layer; "": all of it
};

/// The part of a parameter's name after "layers.I.".
std::string_view within_layer(const Parameter& parameter) {
  const size_t prefix = parameter.layer < 0 ? 0 : fmt::format("{}{}.", kLayers, parameter.layer).size();
  return std::string_view(parameter.name).substr(prefix);
}

bool matches(const Pattern& pattern, const Parameter& parameter) {
  if (parameter.layer < pattern.first || parameter.layer > pattern.last) return false;
  const std::string_view name = within_layer(parameter);
  if (!name.starts_with(pattern.name)) return false;
  return pattern.name.empty() || name.size() == pattern.name.size() || name[pattern.name.size()] == '.';
}

/// A whole number that is the whole text; -1 if it is not.
int64_t number_of(std::string_view text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : -1;
}

/// A pattern that matches nothing if `name` is not written as a pattern.
Pattern pattern_of(std::string_view name, int64_t layers) {
  if (name.empty()) return {.name = "?"};
  if (!name.starts_with(kLayers)) return {.name = name == "embed" ? "embedding" : name};
  name.remove_prefix(kLayers.size());
  const size_t dot = std::min(name.find('.'), name.size());
  const std::string_view selected = name.substr(0, dot);
  Pattern pattern{.first = 0, .last = layers - 1, .name = name.substr(std::min(dot + 1, name.size()))};
  if (dot + 1 == name.size()) return {.name = "?"};  // nothing after the dot
  if (selected == "*") return pattern;
  const size_t dash = selected.find('-');
  pattern.first = number_of(selected.substr(0, dash));
  pattern.last = dash == std::string_view::npos ? pattern.first : number_of(selected.substr(dash + 1));
  const bool exists = pattern.first >= 0 && pattern.first <= pattern.last && pattern.last < layers;
  return exists ? pattern : Pattern{.name = "?"};
}

/// "0-2, 5" of 0, 1, 2, 5.
std::vector<std::string> ranges(const std::vector<int64_t>& layers) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < layers.size();) {
    size_t end = i + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) ++end;
    texts.push_back(end - i == 1 ? fmt::format("{}", layers[i]) : fmt::format("{}-{}", layers[i], layers[end - 1]));
    i = end;
  }
  return texts;
}

/// Every name, with ranges of layers.
std::string names_of(const std::vector<Parameter>& table) {
  std::vector<std::string_view> order;
  std::map<std::string_view, std::vector<int64_t>> layers;
  for (const Parameter& parameter : table) {
    const std::string_view name = within_layer(parameter);
    if (layers.count(name) == 0) order.push_back(name);
    layers[name].push_back(parameter.layer);
  }
  std::vector<std::string> texts;
  for (const std::string_view name : order) {
    if (layers[name].front() < 0) {
      texts.emplace_back(name);
    } else {
      for (const std::string& range : ranges(layers[name]))
        texts.push_back(fmt::format("{}{}.{}", kLayers, range, name));
    }
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

/// Of adapters: freezes those of routed experts that `list` does not name.
void keep_listed_adapters(const ExpertList& list, int64_t experts, std::vector<Parameter>& table) {
  for (Parameter& parameter : table) {
    if (parameter.kind != ParameterKind::routed_experts || parameter.adapter == AdapterPart::none) continue;
    const std::vector<int64_t>& ids = list.of_layer(parameter.layer);
    parameter.frozen = ids.empty();
    if (static_cast<int64_t>(ids.size()) < experts) parameter.experts = ids;
  }
}

/// Freezes what `list` does not name.
void keep_listed(const ExpertList& list, int64_t experts, std::vector<Parameter>& table) {
  for (Parameter& parameter : table) {
    if (parameter.kind == ParameterKind::routed_experts) {
      const std::vector<int64_t>& ids = list.of_layer(parameter.layer);
      parameter.frozen = ids.empty();
      if (static_cast<int64_t>(ids.size()) < experts) parameter.experts = ids;
    } else if (parameter.kind == ParameterKind::shared_experts) {
      parameter.frozen = !list.shared_experts;
    } else {
      parameter.frozen = !list.non_expert_modules;
    }
  }
}

}  // namespace

std::vector<Parameter> training_table(const ModelConfig& config, const std::vector<std::string>& names,
                                      const ExpertList* list) {
  std::vector<Parameter> table = parameter_table(config);
  if (!config.adapters.empty()) {
    for (Parameter& parameter : table) parameter.frozen = parameter.adapter == AdapterPart::none;
    if (list != nullptr) keep_listed_adapters(*list, config.n_routed_experts, table);
  } else if (list != nullptr) {
    keep_listed(*list, config.n_routed_experts, table);
  }
  for (const std::string& name : names) {
    const Pattern pattern = pattern_of(name, config.num_hidden_layers);
    bool found = false;
    for (Parameter& parameter : table) {
      if (!matches(pattern, parameter)) continue;
      parameter.frozen = found = true;
    }
    if (found) continue;
    fail("\"{}\" is not a parameter of this model, expected one of these or a beginning before a dot: {}", name,
         names_of(table));
  }
  if (std::none_of(table.begin(), table.end(), [](const Parameter& parameter) { return parameter.trained(); })) {
    fail("every parameter is frozen, so that nothing is left to train; {}",
         list == nullptr ? "name fewer of them" : "freeze fewer of the parameters that train.experts lists");
  }
  return table;
}

int64_t trained_elements(const std::vector<Parameter>& table) {
  int64_t total = 0;
  for (const Parameter& parameter : table) total += parameter.trained() ? parameter.trained_shape().elements() : 0;
  return total;
}

int64_t frozen_elements(const std::vector<Parameter>& table) {
  int64_t total = 0;
  for (const Parameter& parameter : table) {
    const int64_t all = parameter.shape.elements();
    total += parameter.frozen ? all : all - parameter.trained_shape().elements();
  }
  return total;
}

}  // namespace moe
