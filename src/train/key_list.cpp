#include <algorithm>
#include <array>

#include "base/error.h"
#include "formats/toml_value.h"
#include "train/run_keys.h"

namespace moe {
namespace {

constexpr std::array kSections = std::to_array<std::string_view>(
    {"run", "data", "model", "train", "optimizer", "schedule", "balance", "eval", "checkpoint", "sample"});

template <class S>
std::string default_text(const KeyRow<S>& row) {
  if (row.required) return "*required*";
  if (row.shown_default != nullptr) return row.shown_default;
  const SettingValue value = row.get(S());
  const bool plain = row.kind == KeyKind::integer || row.kind == KeyKind::number || row.kind == KeyKind::boolean;
  if (row.word.text != nullptr && value == SettingValue(row.word.value)) return fmt::format("`\"{}\"`", row.word.text);
  return plain ? plain_text(value) : fmt::format("`{}`", toml_text(value));
}

template <class S>
void list(std::span<const KeyRow<S>> rows, std::vector<ListedKey>& all) {
  for (const KeyRow<S>& row : rows) {
    if (*row.key != '\0') all.push_back({&row, default_text(row)});
  }
}

std::string limit_text(int64_t limit) {
  if (limit == std::numeric_limits<int64_t>::max()) return "2^63 - 1";
  return limit == kMostCount ? "2^31 - 1" : fmt::format("{}", limit);
}

std::string values_text(const KeyInfo& info) {
  switch (info.kind) {
    case KeyKind::integer:
      return fmt::format("integer from {} to {}{}", info.least, limit_text(info.most),
                         info.word.text == nullptr ? "" : fmt::format(", or `\"{}\"`", info.word.text));
    case KeyKind::number:
      return fmt::format("number from {} to {}", info.low, info.high);
    case KeyKind::boolean:
      return "boolean";
    case KeyKind::word: {
      std::vector<std::string> words;
      for (const std::string& word : info.words()) words.push_back(fmt::format("`\"{}\"`", word));
      return fmt::format("{}", fmt::join(words, ", "));
    }
    case KeyKind::text:
      return "string";
    case KeyKind::texts:
      return "list of strings";
  }
  return "?";
}

}  // namespace

std::vector<ListedKey> all_run_keys() {
  std::vector<ListedKey> all;
  list(run_keys(), all);
  list(data_keys(), all);
  list(model_keys(), all);
  list(schedule_keys(), all);
  list(step_keys(), all);
  list(optimizer_keys(), all);
  list(balance_keys(), all);
  list(evaluation_keys(), all);
  list(checkpoint_keys(), all);
  list(sample_keys(), all);
  const auto rank = [](const ListedKey& key) {
    return std::find(kSections.begin(), kSections.end(), key.info->section()) - kSections.begin();
  };
  std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return all;
}

std::string keys_as_markdown() {
  std::string text = "| key | values | default | meaning |\n|---|---|---|---|\n";
  for (const ListedKey& key : all_run_keys()) {
    const std::string needs = key.info->needs == nullptr ? "" : fmt::format("; needs {}", key.info->needs->text);
    text += fmt::format("| `{}` | {} | {} | {}{} |\n", key.info->key, values_text(*key.info), key.default_text,
                        key.info->doc, needs);
  }
  return text;
}

}  // namespace moe
