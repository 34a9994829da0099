#pragma once

#include <string_view>

#include "template/ast.h"

namespace moe::jinja {

/// Throws SyntaxMistake (template/lexer.h) if jinja2 cannot compile the template either. This includes unknown filters,
/// tests and tags.
Parsed parse(std::string_view source);

}  // namespace moe::jinja
