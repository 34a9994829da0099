#pragma once
/// The terminal behind standard error.

#include <cstddef>

namespace moe {

/// Its number of columns; 80 if there is no terminal.
size_t terminal_width();

}  // namespace moe
