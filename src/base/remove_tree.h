#pragma once
/// Removing folders without exceptions: what is removed is old, and a failure must not end what is new.

#include <system_error>

#include "base/file.h"

namespace moe {

/// Removes a file, or a folder with all that it holds; what is not there is no error.
std::error_code remove_tree(const fs::path& path);

/// For tests: while on, remove_tree() fails as in a folder without permission.
void fail_removals(bool on);

}  // namespace moe
