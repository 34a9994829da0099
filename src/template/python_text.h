#pragma once
/// Values as text, as Python writes them: str(), repr() and json.dumps().

#include <optional>
#include <string>
#include <string_view>

#include "template/value.h"

namespace moe::jinja {

/// str(): the text that {{ value }} prints.
std::string as_text(const Value& value);
/// repr(): the text of a value inside a list.
std::string shown(const Value& value);
/// repr() of text: quoted, with escapes for characters that cannot be printed.
std::string quoted(std::string_view text);

std::string float_text(double value);

struct JsonStyle {
  bool ascii = false;                      // all other characters as \uXXXX
  std::optional<std::string> indent = {};  // text of one level of indentation; without it everything is on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

/// json.dumps(). An error for a value that JSON cannot hold.
std::string json_dump(const Value& value, const JsonStyle& style);

}  // namespace moe::jinja
