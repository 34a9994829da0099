#pragma once
/// The options that change which experts a model uses at inference.

#include <CLI/CLI.hpp>

#include "infer/switches.h"

namespace moe {

/// Declares `--experts-per-token`, `--mask-experts`, `--boost-experts`, `--mask-best` and `--drop-shared`.
void add_routing_options(CLI::App& command, RoutingSwitches& switches);

/// "LAYER:EXPERT,EXPERT". A UsageError calls the option or command `name`.
ExpertMask parse_mask(std::string_view text, std::string_view name);

/// "LAYER:EXPERT,EXPERT=NUMBER": the same number for each of the experts.
std::vector<ExpertBoost> parse_boosts(std::string_view text, std::string_view name);

}  // namespace moe
