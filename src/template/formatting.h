#pragma once
/// Python's two ways to put values into text, and its format specifications.

#include "template/value.h"

namespace moe::jinja {

/// format % arguments.
Value percent_formatted(const Value& format, const Value& arguments);

/// format.format(...).
Value brace_formatted(const Value& format, const Arguments& arguments);

/// A value under a format specification such as ">10" or ",.2f".
std::string formatted(const Value& value, std::string_view specification);

}  // namespace moe::jinja
