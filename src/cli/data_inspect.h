#pragma once

#include <CLI/CLI.hpp>

namespace moe {

/// Declares `moe data inspect`.
void add_data_inspect_command(CLI::App& data);

}  // namespace moe
