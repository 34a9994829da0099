#pragma once

#include <string>
#include <string_view>

namespace moe::jinja {

/// The text between a string's quotes, with Python's escapes resolved. Throws SyntaxMistake for that line.
std::string unescaped(std::string_view literal, int line);

}  // namespace moe::jinja
