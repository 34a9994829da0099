#pragma once
/// Commands of the shell.

#include <string>
#include <utility>
#include <vector>

namespace moe {

/// Runs `command` with /bin/sh and waits for it. `variables` are added to this process's environment. The command has
/// no standard input. Returns its exit status, 128 + N if signal N ended it, and 127 if it cannot be started.
int run_in_shell(const std::string& command, const std::vector<std::pair<std::string, std::string>>& variables);

}  // namespace moe
