#pragma once

#include <string_view>

#include "template/ast.h"

namespace moe::jinja {

/// Throws SyntaxMistake (template/lexer.h) where jinja2 cannot compile the template either, unknown filters, tests and
/// tags included.
Parsed parse(std::string_view source);

}  // namespace moe::jinja
