#pragma once
/// Answers for options and keys that are given more often than they count.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace moe {

/// A sentence about the first option that takes one value and was given several; "" if there is none.
std::string repeated_option(const CLI::App& app);

/// Warns of keys that `assignments` (KEY=VALUE, of --set) give twice with different values: the last one counts.
void warn_of_repeated_keys(const std::vector<std::string>& assignments);

}  // namespace moe
