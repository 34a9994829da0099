#pragma once

#include <string>
#include <string_view>

namespace moe::jinja {

/// What stands between a string's quotes, with Python's escapes resolved. Throws SyntaxMistake of that line.
std::string unescaped(std::string_view literal, int line);

}  // namespace moe::jinja
