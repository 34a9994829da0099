#pragma once
/// Reads a run file's keys by the rows of their tables (model/key_rows.h).

#include <optional>

#include "formats/toml.h"
#include "model/key_rows.h"

namespace moe {

/// The value that the file or an override gives, of the key's kind and one of its values; nothing where none is given.
std::optional<SettingValue> read_value(Settings& settings, const KeyInfo& info);

/// Refuses a key that is given although `model` lacks what it needs.
void refuse_without_need(const Settings& settings, const KeyInfo& info);

/// Runs `read`; a UsageError of it is kept as a mistake of `key`, to be told with the others by Settings::finish().
template <class Read>
void keep_mistake_of(Settings& settings, std::string_view key, const Read& read) {
  try {
    read();
  } catch (const UsageError& error) {
    settings.keep_mistake(key, error);
  }
}

/// Puts what the settings give over `object`, which holds the defaults, row by row. Where `complete`, the defaults of
/// required keys are good ones. `model` is what rows need; of ModelConfig's own rows the object itself. Mistakes are
/// kept, and the default stays.
template <class S>
void read_rows(Settings& settings, std::span<const KeyRow<S>> rows, S& object, const ModelConfig& model,
               bool complete = false) {
  const S before = object;
  for (const KeyRow<S>& row : rows) {
    if (*row.key == '\0') continue;
    keep_mistake_of(settings, row.key, [&] {
      if (row.absent_without_need && !row.needs->holds(model)) {
        settings.know(row.key);
        if (settings.given(row.key)) refuse_without_need(settings, row);
        return;
      }
      if (row.derive != nullptr) row.derive(object, before);
      const auto value = read_value(settings, row);
      if (value) {
        row.set(object, *value);
      } else if (row.required && !complete) {
        settings.fail_missing(row.key, expected_values(row));
      }
      const SettingValue held = row.get(object);
      const bool as_word = row.word.text != nullptr && held == value_of_word(row);
      settings.resolve(row.key, as_word ? SettingValue(std::string(row.word.text)) : held);
    });
  }
}

/// Keeps as mistakes the given keys whose values have no effect, since `model` lacks what the rows need.
template <class S>
void refuse_without_effect(Settings& settings, std::span<const KeyRow<S>> rows, const S& object,
                           const ModelConfig& model) {
  const S plain;
  for (const KeyRow<S>& row : rows) {
    if (row.needs == nullptr || row.needs->holds(model) || !settings.given(row.key)) continue;
    if (row.get(object) == row.get(plain)) continue;
    keep_mistake_of(settings, row.key, [&] { refuse_without_need(settings, row); });
  }
}

}  // namespace moe
