#include "train/read_keys.h"

namespace moe {
namespace {

template <class T>
std::optional<SettingValue> find(Settings& settings, std::string_view key) {
  const std::optional<T> value = settings.find<T>(key);
  return value ? std::optional<SettingValue>(*value) : std::nullopt;
}

std::optional<SettingValue> find_plain(Settings& settings, const KeyInfo& info) {
  switch (info.kind) {
    case KeyKind::integer:
      return find<int64_t>(settings, info.key);
    case KeyKind::number:
      return find<double>(settings, info.key);
    case KeyKind::boolean:
      return find<bool>(settings, info.key);
    case KeyKind::word:
    case KeyKind::text:
      return find<std::string>(settings, info.key);
    case KeyKind::texts:
      return find<std::vector<std::string>>(settings, info.key);
    case KeyKind::integers:
      return find<std::vector<int64_t>>(settings, info.key);
  }
  return std::nullopt;
}

std::optional<SettingValue> find_kind(Settings& settings, const KeyInfo& info) {
  if (info.word.text == nullptr) return find_plain(settings, info);
  try {
    return find_plain(settings, info);
  } catch (const UsageError&) {  // which does not know of the word
    settings.refuse(info.key, expected_values(info));
  }
}

}  // namespace

std::optional<SettingValue> read_value(Settings& settings, const KeyInfo& info) {
  if (info.word.text != nullptr && settings.gives_text(info.key, info.word.text)) return value_of_word(info);
  const std::optional<SettingValue> value = find_kind(settings, info);
  KeyInfo without_word = info;  // what stands for it in the program is no value of a file
  without_word.word = {};
  if (value && !takes(without_word, *value)) settings.refuse(info.key, expected_values(info));
  return value;
}

void refuse_without_need(const Settings& settings, const KeyInfo& info) {
  settings.refuse(info.key, fmt::format("to be left out: it needs {}", info.need()));
}

}  // namespace moe
