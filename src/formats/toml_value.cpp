#include "formats/toml_value.h"

#include <algorithm>
#include <optional>
#include <sstream>
#include <type_traits>

#include <toml++/toml.h>

#include "base/error.h"
#include "formats/toml_scalar.h"
#include "formats/weighted_paths.h"

namespace moe {
namespace {

std::optional<SettingValue> scalar_of(const toml::node& node) {
  if (const auto* value = node.as_integer()) return value->get();
  if (const auto* value = node.as_floating_point()) return value->get();
  if (const auto* value = node.as_boolean()) return value->get();
  if (const auto* value = node.as_string()) return value->get();
  return {};
}

// All items as T (integers count as doubles), or nothing.
template <class T>
std::optional<std::vector<T>> items_of(const toml::array& list) {
  std::vector<T> items;
  for (const auto& item : list) {
    const auto scalar = scalar_of(item);
    if (!scalar) return {};
    const T* value = std::get_if<T>(&*scalar);
    if (value != nullptr) {
      items.push_back(*value);
      continue;
    }
    if constexpr (std::is_same_v<T, double>) {
      if (const auto* integer = std::get_if<int64_t>(&*scalar)) {
        items.push_back(static_cast<double>(*integer));
        continue;
      }
    }
    return {};
  }
  return items;
}

std::string text_of(int64_t value) { return fmt::format("{}", value); }
std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(const std::string& value) { return is_weighted_paths(value) ? value : toml_quoted(value); }
std::string text_of(double value) { return toml_number(value); }

template <class T>
std::string text_of(const std::vector<T>& values) {
  std::vector<std::string> items;
  for (const auto& value : values) items.push_back(text_of(static_cast<T>(value)));
  return fmt::format("[{}]", fmt::join(items, ", "));
}

SettingValue setting_value(const toml::node& node, const std::string& where, const std::string& key) {
  if (const auto value = scalar_of(node)) return *value;
  const auto* list = node.as_array();
  if (list == nullptr) fail_usage("{}: {} is a date or time, which no key takes", where, key);
  if (auto items = items_of<int64_t>(*list)) return *items;
  if (auto items = items_of<double>(*list)) return *items;
  if (auto items = items_of<bool>(*list)) return *items;
  if (auto items = items_of<std::string>(*list)) return *items;
  if (std::any_of(list->begin(), list->end(), [](const toml::node& item) { return item.is_array(); })) {
    fail_usage("{}: the list in {} has a list in it, which no key takes", where, key);
  }
  if (list->is_homogeneous<toml::table>()) {
    std::ostringstream text;
    text << toml::toml_formatter(*list, toml::format_flags::none);
    return weighted_paths_text(parse_weighted_paths(text.str(), fmt::format("{}: {}", where, key)));
  }
  fail_usage("{}: the list in {} mixes types, expected only integers, only numbers, only booleans or only strings",
             where, key);
}

void append_table(std::vector<TomlEntry>& entries, const toml::table& table, const std::string& prefix,
                  const std::string& source) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix.empty() ? std::string(name.str()) : prefix + "." + std::string(name.str());
    if (const auto* inner = node.as_table()) {
      append_table(entries, *inner, key, source);
      continue;
    }
    const int line = static_cast<int>(node.source().begin.line);
    entries.push_back({key, setting_value(node, fmt::format("{}:{}", source, line), key), line});
  }
}

}  // namespace

std::vector<TomlEntry> parse_toml(std::string_view text, const std::string& source) {
  std::vector<TomlEntry> entries;
  try {
    append_table(entries, toml::parse(text, source), "", source);
  } catch (const toml::parse_error& error) {
    fail_usage("{}:{}: this is not valid TOML: {}", source, error.source().begin.line, error.description());
  }
  return entries;
}

std::optional<SettingValue> parse_toml_value(std::string_view text, const std::string& where) {
  try {
    const auto table = toml::parse("value = " + std::string(text));
    const toml::node* value = table.get("value");
    const bool word = value->is_table() || value->is_date() || value->is_time() || value->is_date_time();
    if (table.size() == 1 && !word) return setting_value(*value, where, "the value");
  } catch (const toml::parse_error&) {
    // A bare word such as runs/demo.
  }
  return {};
}

std::string toml_text(const SettingValue& value) {
  return std::visit([](const auto& held) { return text_of(held); }, value);
}

}  // namespace moe
