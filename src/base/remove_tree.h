#pragma once
/// Removes folders without exceptions. The removed files are old; a failure must not end newer work.

#include <system_error>

#include "base/file.h"

namespace moe {

/// Removes a file, or a folder with its content. A missing path is not an error.
std::error_code remove_tree(const fs::path& path);

/// For tests: while `on`, remove_tree() fails as in a folder without permission.
void fail_removals(bool on);

}  // namespace moe
