#include <algorithm>
#include <array>

#include "base/error.h"
#include "formats/toml_value.h"
#include "train/granularity.h"
#include "train/run_keys.h"

namespace moe {
namespace {

constexpr std::array kSections =
    std::to_array<std::string_view>({"run", "data", "model", "train", "lora", "dpo", "optimizer", "schedule", "balance",
                                     "eval", "checkpoint", "sample", "log", "health"});

std::string limit_text(int64_t limit) {
  if (limit == std::numeric_limits<int64_t>::max()) return "2^63 - 1";
  return limit == kMostCount ? "2^31 - 1" : fmt::format("{}", limit);
}

std::string values_text(const KeyInfo& info) {
  const std::string or_word = info.word.text == nullptr ? "" : fmt::format(", or `\"{}\"`", info.word.text);
  switch (info.kind) {
    case KeyKind::integer:
      return fmt::format("integer from {} to {}{}", info.least, limit_text(info.most), or_word);
    case KeyKind::number:
      return fmt::format("number from {} to {}", info.low, info.high);
    case KeyKind::boolean:
      return "boolean" + or_word;
    case KeyKind::word: {
      std::vector<std::string> words;
      for (const std::string& word : info.words()) words.push_back(fmt::format("`\"{}\"`", word));
      return fmt::format("{}", fmt::join(words, ", "));
    }
    case KeyKind::text:
      return "string";
    case KeyKind::texts:
      return "list of strings";
    case KeyKind::integers:
      return fmt::format("list of integers from {} to {}", info.least, limit_text(info.most));
  }
  return "?";
}

}  // namespace

std::string shown_default(const KeyInfo& info, const SettingValue& value) {
  if (info.required) return "*required*";
  if (info.shown_default != nullptr) return info.shown_default;
  const bool plain = info.kind == KeyKind::integer || info.kind == KeyKind::number || info.kind == KeyKind::boolean;
  const bool as_word = info.word.text != nullptr && value == value_of_word(info);
  if (as_word) return fmt::format("`\"{}\"`", info.word.text);
  return plain ? plain_text(value) : fmt::format("`{}`", toml_text(value));
}

std::vector<ListedKey> all_run_keys() {
  std::vector<ListedKey> all;
  list_keys(run_keys(), all);
  list_keys(data_keys(), all);
  list_keys(model_keys(), all);
  list_keys(full_width_keys(), all);
  list_keys(schedule_keys(), all);
  list_keys(step_keys(), all);
  list_keys(lora_keys(), all);
  list_keys(optimizer_keys(), all);
  list_keys(balance_keys(), all);
  list_keys(evaluation_keys(), all);
  list_keys(checkpoint_keys(), all);
  list_keys(sample_keys(), all);
  list_keys(log_keys(), all);
  list_keys(health_keys(), all);
  const auto rank = [](const ListedKey& key) {
    return std::find(kSections.begin(), kSections.end(), key.info->section()) - kSections.begin();
  };
  std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return all;
}

bool key_has_effect(std::string_view key, const RunConfig& run) {
  bool found = true;
  const auto look = [&](auto rows, const auto& object) {
    for (const auto& row : rows) {
      if (row.key == key) found = has_effect(row, object, run.model);
    }
  };
  look(run_keys(), run);
  look(data_keys(), run.data);
  look(model_keys(), run.model);
  look(schedule_keys(), run.schedule);
  look(step_keys(), run.step);
  look(lora_keys(), run.step.lora);
  look(optimizer_keys(), run.step.optimizer);
  look(balance_keys(), run.step.balance);
  return found;
}

std::string keys_as_markdown(const std::vector<ListedKey>& keys) {
  std::string text = "| key | values | default | meaning |\n|---|---|---|---|\n";
  for (const ListedKey& key : keys) {
    const std::string need = key.info->need(), needs = need.empty() ? "" : "; needs " + need;
    text += fmt::format("| `{}` | {} | {} | {}{} |\n", key.info->key, values_text(*key.info), key.default_text,
                        key.info->doc, needs);
  }
  return text;
}

}  // namespace moe
