#pragma once
/// The terminal behind standard error.

#include <cstddef>

namespace moe {

/// Its columns; 80 where there is none.
size_t terminal_width();

}  // namespace moe
