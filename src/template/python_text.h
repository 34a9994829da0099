#pragma once
/// How Python writes values: str(), repr() and json.dumps().

#include <optional>
#include <string>
#include <string_view>

#include "template/value.h"

namespace moe::jinja {

/// str(): what {{ value }} prints.
std::string as_text(const Value& value);
/// repr(): how a value is shown inside a list.
std::string shown(const Value& value);
/// repr() of text: quoted, with what cannot be printed escaped.
std::string quoted(std::string_view text);

std::string float_text(double value);

struct JsonStyle {
  bool ascii = false;                      // all other characters as \uXXXX
  std::optional<std::string> indent = {};  // of one level; without it everything is on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

/// json.dumps(); an error for what JSON cannot say.
std::string json_dump(const Value& value, const JsonStyle& style);

}  // namespace moe::jinja
