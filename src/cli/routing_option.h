#pragma once
/// The options that change which experts a model uses at inference.

#include <CLI/CLI.hpp>

#include "infer/switches.h"

namespace moe {

/// Declares `--experts-per-token`, `--mask-experts`, `--mask-best` and `--drop-shared`.
void add_routing_options(CLI::App& command, RoutingSwitches& switches);

}  // namespace moe
