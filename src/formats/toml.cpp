#include "formats/toml.h"

#include <algorithm>
#include <cctype>
#include <type_traits>

#include "base/error.h"
#include "base/printable.h"
#include "base/utf8.h"
#include "formats/toml_scalar.h"
#include "formats/weighted_paths.h"

namespace moe {

namespace {

template <class T>
constexpr bool is_list = false;
template <class T>
constexpr bool is_list<std::vector<T>> = true;

template <class T>
const char* expected_type() {
  if constexpr (std::is_same_v<T, int64_t>) return "an integer";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, std::string>) return "a string";
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "a list of integers, for instance [1, 2]";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "a list of numbers, for instance [0.5, 1.0]";
  if constexpr (std::is_same_v<T, std::vector<bool>>) return "a list of booleans, for instance [true, false]";
  return "a list of strings, for instance [\"a\", \"b\"]";
}

// `value` as a T, if TOML's types allow it without loss: the same type, an integer as a number, an empty list as any
// list.
template <class T>
std::optional<T> convert(const SettingValue& value) {
  if (const auto* exact = std::get_if<T>(&value)) return *exact;
  if constexpr (std::is_same_v<T, double>) {
    if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  }
  if constexpr (is_list<T>) {
    if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
      if (integers->empty()) return T{};
      if constexpr (std::is_same_v<T, std::vector<double>>) return T(integers->begin(), integers->end());
    }
  }
  return {};
}

std::string_view section_of(std::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : key.substr(0, dot);
}

std::string_view leaf_of(std::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? key : key.substr(dot + 1);
}

/// A word in the form of the aliases: in small letters, with its parts joined by "_".
std::string plain_word(std::string_view text) {
  std::string word(text);
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::tolower(c)); });
  return word;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) words.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t") - begin + 1));
}

bool is_bare_key(std::string_view key) {
  return !key.empty() &&
         std::all_of(key.begin(), key.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

std::string key_text(std::string_view key) { return is_bare_key(key) ? std::string(key) : toml_quoted(key); }

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  const size_t width = b.size() + 1;
  std::vector<int> cost((a.size() + 1) * width);
  const auto at = [&](size_t i, size_t j) -> int& { return cost[i * width + j]; };
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        at(i, j) = static_cast<int>(i + j);
        continue;
      }
      at(i, j) = std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (a[i - 1] != b[j - 1] ? 1 : 0)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
    }
  }
  return cost.back();
}

Settings Settings::load(const fs::path& path) { return parse(read_file(path), path.string()); }

Settings Settings::parse(std::string_view text, const std::string& source) {
  Settings settings;
  settings.source_ = source;
  for (TomlEntry& entry : parse_toml(text, source)) {
    const std::string where = fmt::format("{}:{}", source, entry.line);
    // Only a quoted key with a dot can repeat a path.
    if (settings.given(entry.key)) fail_usage("{}: {} is given twice", where, entry.key);
    settings.entries_[entry.key] = {.value = std::move(entry.value), .raw = {}, .where = where, .order = entry.line};
  }
  return settings;
}

void Settings::set(std::string_view assignment) {
  const size_t equals = assignment.find('=');
  const std::string key = equals == std::string_view::npos ? "" : trimmed(assignment.substr(0, equals));
  if (key.empty()) fail_usage("--set {}: expected KEY=VALUE, for instance --set train.steps=100", assignment);
  const std::string text = trimmed(assignment.substr(equals + 1));
  if (valid_utf8(assignment) != assignment) {
    fail_usage("--set {}: the value of {} is {}, which is not UTF-8; choose a name in UTF-8", printable(assignment),
               printable(key), printable(text));
  }
  Entry entry{.value = text, .raw = text, .where = fmt::format("--set {}", assignment), .order = next_order_++};
  if (auto value = parse_toml_value(text, entry.where)) entry.value = std::move(*value);
  entries_[key] = std::move(entry);
}

void Settings::keep(std::string_view key, std::string_view value, const std::string& from) {
  Entry entry{.value = std::string(value), .raw = {}, .where = from, .order = next_order_++, .kept = true};
  if (auto parsed = parse_toml_value(value, from)) entry.value = std::move(*parsed);
  entries_[std::string(key)] = std::move(entry);
}

bool Settings::kept(std::string_view key) const {
  const auto found = entries_.find(std::string(key));
  return found != entries_.end() && found->second.kept;
}

bool Settings::overridden(std::string_view key) const {
  const auto found = entries_.find(std::string(key));
  return found != entries_.end() && found->second.order >= kFirstOverride;
}

const Settings::Entry* Settings::find_entry(std::string_view key) {
  known_.insert(std::string(key));
  const auto found = entries_.find(std::string(key));
  return found == entries_.end() ? nullptr : &found->second;
}

template <class T>
std::optional<T> Settings::find(std::string_view key) {
  const Entry* entry = find_entry(key);
  if (entry == nullptr) return {};
  std::optional<T> value = convert<T>(entry->value);
  if constexpr (std::is_same_v<T, std::string>) {
    if (!value && entry->raw) value = entry->raw;
  }
  if (!value) refuse(key, expected_type<T>());
  resolved_[std::string(key)] = *value;
  return value;
}

template <class T>
T Settings::get(std::string_view key, T default_value) {
  if (std::optional<T> value = find<T>(key)) return *value;
  resolved_[std::string(key)] = default_value;
  return default_value;
}

template <class T>
T Settings::require(std::string_view key) {
  if (std::optional<T> value = find<T>(key)) return *value;
  fail_missing(key, expected_type<T>());
}

void Settings::fail_missing(std::string_view key, std::string_view expected) const {
  fail_usage("{}: {} is missing, expected {}; add it or use --set {}=...", source_.empty() ? "the settings" : source_,
             key, expected, key);
}

bool Settings::gives_text(std::string_view key, std::string_view text) {
  const Entry* entry = find_entry(key);
  return entry != nullptr && entry->value == SettingValue(std::string(text));
}

void Settings::drop(std::string_view key) {
  know(key);
  entries_.erase(std::string(key));
  resolved_.erase(std::string(key));
}

void Settings::drop_section(std::string_view section) {
  const std::string prefix = std::string(section) + ".";
  std::erase_if(entries_, [&](const auto& entry) { return entry.first.starts_with(prefix); });
}

std::string Settings::where(std::string_view key) const {
  const auto found = entries_.find(std::string(key));
  return found == entries_.end() ? "default" : found->second.where;
}

void Settings::refuse(std::string_view key, std::string_view expected) const {
  const auto found = entries_.find(std::string(key));
  const auto resolved = resolved_.find(std::string(key));
  std::string value = "missing";
  if (found != entries_.end())
    value = toml_text(found->second.value);
  else if (resolved != resolved_.end())
    value = toml_text(resolved->second);
  fail_usage("{}: {} is {}, expected {}", where(key), key, value, expected);
}

void Settings::take_as_paths(std::string_view key) {
  const auto found = entries_.find(std::string(key));
  if (found == entries_.end()) return;
  if (const auto* empty = std::get_if<std::vector<int64_t>>(&found->second.value); empty != nullptr && empty->empty()) {
    fail_usage("{}: the list in {} is empty, expected at least one path", found->second.where, key);
  }
  const auto* list = std::get_if<std::vector<std::string>>(&found->second.value);
  if (list == nullptr || list->empty()) return;
  std::vector<WeightedPath> paths;
  for (const std::string& path : *list) paths.push_back({.path = path, .weight = 0});
  std::string text = weighted_paths_text(paths);
  parse_weighted_paths(text, fmt::format("{}: {}", found->second.where, key));  // refuses an empty path
  found->second.value = std::move(text);
}

void Settings::know(std::string_view key, std::string_view also) {
  known_.insert(std::string(key));
  for (const std::string& word : words_of(also)) also_[word] = key;
}

void Settings::keep_mistake(std::string_view key, const UsageError& error) {
  const auto found = entries_.find(std::string(key));
  mistakes_.push_back({found == entries_.end() ? 0 : found->second.order, std::string(key), error.what()});
}

std::string Settings::meant_key(const std::string& key) const {
  std::string closest;
  int best = std::max<int>(2, static_cast<int>(key.size()) / 4) + 1;
  for (const std::string& known : known_) {
    // A text that is longer by n needs at least n edits.
    const auto [shorter, longer] = std::minmax({known.size(), key.size()});
    if (leaf_of(known) != leaf_of(key) && longer - shorter >= static_cast<size_t>(best)) continue;
    // The right name in the wrong section counts as one slip, for a section's name of any length.
    const int distance = leaf_of(known) == leaf_of(key) ? 1 : edit_distance(key, known);
    if (distance < best) {
      best = distance;
      closest = known;
    }
  }
  // A word that means a key is better than a key with a similar spelling, and without a section better than any.
  const bool sure = best <= 1 && !section_of(key).empty();
  if (const auto found = also_.find(plain_word(leaf_of(key))); !sure && found != also_.end()) return found->second;
  return closest;
}

std::string Settings::unknown_key_text(const std::string& key, const Entry& entry, const std::string& meant) const {
  const std::string unknown = fmt::format("{}: unknown key {}; ", entry.where, key);
  if (!meant.empty()) return unknown + fmt::format("did you mean {}?", meant);
  std::vector<std::string> siblings;
  for (const std::string& known : known_) {
    if (section_of(known) == section_of(key)) siblings.push_back(std::string(leaf_of(known)));
  }
  if (!siblings.empty() && !section_of(key).empty()) {
    return unknown + fmt::format("the keys of [{}] are {}", section_of(key), fmt::join(siblings, ", "));
  }
  std::set<std::string> sections;
  for (const std::string& known : known_) {
    if (!section_of(known).empty()) sections.insert(fmt::format("[{}]", section_of(known)));
  }
  return unknown + fmt::format("the sections are {}", fmt::join(sections, ", "));
}

void Settings::finish(std::string_view section) const {
  const std::string prefix = section.empty() ? "" : fmt::format("{}.", section);
  std::vector<Mistake> mistakes = mistakes_;
  for (const auto& [key, entry] : entries_) {
    if (known_.count(key) != 0 || !key.starts_with(prefix)) continue;
    const std::string meant = meant_key(key);
    mistakes.push_back({entry.order, key, unknown_key_text(key, entry, meant)});
    // A key that is missing because it was given under another name is only one mistake.
    std::erase_if(mistakes, [&](const Mistake& one) { return one.order == 0 && one.key == meant; });
  }
  if (mistakes.empty()) return;
  std::stable_sort(mistakes.begin(), mistakes.end(), [](const auto& a, const auto& b) { return a.order < b.order; });
  if (mistakes.size() == 1) throw UsageError(mistakes.front().text);
  std::string text = fmt::format("{} mistakes in the settings:", mistakes.size());
  for (const Mistake& mistake : mistakes) text += "\n  " + mistake.text;
  throw UsageError(text);
}

std::string Settings::to_toml() const {
  std::vector<std::pair<std::string, std::string>> keys;
  for (const auto& [key, value] : resolved_) keys.emplace_back(section_of(key), leaf_of(key));
  std::sort(keys.begin(), keys.end());
  std::string text;
  std::string open_section;
  for (const auto& [section, leaf] : keys) {
    if (section != open_section) {
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
      open_section = section;
    }
    const std::string key = section.empty() ? leaf : section + "." + leaf;
    text += fmt::format("{} = {}\n", key_text(leaf), toml_text(resolved_.at(key)));
  }
  return text;
}

#define MOE_SETTINGS_TYPE(T)                         \
  template T Settings::get<T>(std::string_view, T);  \
  template T Settings::require<T>(std::string_view); \
  template std::optional<T> Settings::find<T>(std::string_view);
MOE_SETTINGS_TYPE(int64_t)
MOE_SETTINGS_TYPE(double)
MOE_SETTINGS_TYPE(bool)
MOE_SETTINGS_TYPE(std::string)
MOE_SETTINGS_TYPE(std::vector<int64_t>)
MOE_SETTINGS_TYPE(std::vector<double>)
MOE_SETTINGS_TYPE(std::vector<bool>)
MOE_SETTINGS_TYPE(std::vector<std::string>)
#undef MOE_SETTINGS_TYPE

}  // namespace moe
