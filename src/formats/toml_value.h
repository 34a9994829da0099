#pragma once
/// The values that settings hold (base/setting_value.h), out of TOML text and back.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/setting_value.h"

namespace moe {

/// One value of a TOML text under its dotted path, "train.steps".
struct TomlEntry {
  std::string key;
  SettingValue value;
  /// Counted from 1.
  int line = 0;
};

/// All values of `text`; a list of tables is the text of formats/weighted_paths.h. Errors ("FILE:LINE: ...") name it
/// `source`: bad syntax, dates, lists of mixed types or of lists.
std::vector<TomlEntry> parse_toml(std::string_view text, const std::string& source);

/// The value that `text` is when it is one TOML value (`3`, `true`, `"a"`, `[1, 2]`), else nothing. The error of a
/// list of mixed types begins with `where`.
std::optional<SettingValue> parse_toml_value(std::string_view text, const std::string& where);

/// As TOML text; reading it back gives the same value, doubles to the last bit.
std::string toml_text(const SettingValue& value);

/// A TOML basic string.
std::string toml_quoted(std::string_view text);

}  // namespace moe
