#pragma once
/// Reads the values of settings (base/setting_value.h) from TOML text, and writes them.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/setting_value.h"

namespace moe {

/// One value of a TOML text with its dotted path, "train.steps".
struct TomlEntry {
  std::string key;
  SettingValue value;
  /// Counted from 1.
  int line = 0;
};

/// All values of `text`. A list of tables becomes the text of formats/weighted_paths.h. Errors ("FILE:LINE: ...") call
/// the text `source`: bad syntax, dates, lists of mixed types or of lists.
std::vector<TomlEntry> parse_toml(std::string_view text, const std::string& source);

/// The value of `text` if it is one TOML value (`3`, `true`, `"a"`, `[1, 2]`), else nothing. An error about a list of
/// mixed types begins with `where`.
std::optional<SettingValue> parse_toml_value(std::string_view text, const std::string& where);

/// The value as TOML text. Reading it back gives the same value; doubles are exact to the last bit.
std::string toml_text(const SettingValue& value);

}  // namespace moe
