#pragma once
/// Single values as TOML text.

#include <string>
#include <string_view>

namespace moe {

/// The shortest decimal that reads back as the same double, in a form that is not an integer; or nan, inf, -inf.
std::string toml_number(double value);

/// A TOML basic string.
std::string toml_quoted(std::string_view text);

}  // namespace moe
