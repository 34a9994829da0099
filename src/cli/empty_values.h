#pragma once
/// Options and arguments with an empty value, such as a shell makes of a variable that is not set.

#include <CLI/CLI.hpp>

namespace moe {

/// Lets the options and arguments of `app` and of all its commands refuse an empty value, except those to which it has
/// a meaning, or which have a sentence of their own. Without this an empty path would count as an option left out.
void refuse_empty_values(CLI::App& app);

}  // namespace moe
