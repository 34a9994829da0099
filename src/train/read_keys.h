#pragma once
/// Reads a run file's keys with the rows of their tables (model/key_rows.h).

#include <optional>

#include "formats/toml.h"
#include "model/key_rows.h"

namespace moe {

/// The value from the file or an override, if it has the key's kind and range; nothing if the key is not given.
std::optional<SettingValue> read_value(Settings& settings, const KeyInfo& info);

/// Refuses a key that is given although what it needs, for instance "routed experts", is not there.
void refuse_without_need(const Settings& settings, const KeyInfo& info);

/// Sets the value in effect of the row's key.
template <class S>
void resolve_row(Settings& settings, const KeyRow<S>& row, const S& object) {
  const SettingValue held = row.get(object);
  const bool as_word = row.word.text != nullptr && held == value_of_word(row);
  settings.resolve(row.key, as_word ? SettingValue(std::string(row.word.text)) : held);
}

/// Runs `read`. A UsageError becomes a mistake of `key`, which Settings::finish() reports together with the others.
template <class Read>
void keep_mistake_of(Settings& settings, std::string_view key, const Read& read) {
  try {
    read();
  } catch (const UsageError& error) {
    settings.keep_mistake(key, error);
  }
}

/// Whether the row's rule has another result for `object` than for `loaded`.
template <class S>
bool derives_another(const KeyRow<S>& row, const S& object, const S& loaded) {
  S now = object, then = loaded;
  row.derive(now, loaded);
  row.derive(then, loaded);
  return row.get(now) != row.get(then);
}

/// Sets the members of `object`, which holds the defaults, from the settings, row by row. With `complete`, the defaults
/// of required keys are valid. Conditions of rows refer to `model`; for rows of ModelConfig, to the object itself.
/// After a mistake, which is kept, the default stays. `loaded` has the values of a model that exists; a row's rule
/// overwrites one only if the settings change what it follows from.
template <class S>
void read_rows(Settings& settings, std::span<const KeyRow<S>> rows, S& object, const ModelConfig& model,
               bool complete = false, const S* loaded = nullptr) {
  const S before = object;
  for (const KeyRow<S>& row : rows) {
    if (*row.key == '\0') continue;
    keep_mistake_of(settings, row.key, [&] {
      if (row.absent_without_need && !row.needs->holds(model)) {
        settings.know(row.key);
        if (settings.given(row.key) && !settings.kept(row.key)) refuse_without_need(settings, row);
        return;
      }
      if (row.derive != nullptr && (loaded == nullptr || derives_another(row, object, *loaded))) {
        row.derive(object, before);
      }
      const auto value = read_value(settings, row);
      if (value) {
        row.set(object, *value);
      } else if (row.required && !complete) {
        settings.fail_missing(row.key, expected_values(row));
      }
      resolve_row(settings, row, object);
    });
  }
}

/// Keeps as mistakes the given keys whose values have no effect, because `model` or another key of the struct does not
/// meet the rows' conditions. Such a value that a resumed run kept (Settings::keep) becomes the default.
template <class S>
void refuse_without_effect(Settings& settings, std::span<const KeyRow<S>> rows, S& object, const ModelConfig& model) {
  const S plain;
  for (const KeyRow<S>& row : rows) {
    if (has_effect(row, object, model) || !settings.given(row.key) || row.get(object) == row.get(plain)) continue;
    if (settings.kept(row.key)) {
      row.set(object, row.get(plain));
      resolve_row(settings, row, object);
    } else {
      keep_mistake_of(settings, row.key, [&] { refuse_without_need(settings, row); });
    }
  }
}

}  // namespace moe
