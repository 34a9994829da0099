#pragma once

#include "template/renderer.h"

namespace moe::jinja {

/// The macro that a statement (macro or call_block) defines in a scope.
Value make_macro(Renderer& renderer, const Statement& statement, const ScopePointer& scope);

}  // namespace moe::jinja
