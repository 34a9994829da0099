#pragma once
/// `moe eval causal`: the loss without each expert, beside its load.

#include <CLI/CLI.hpp>

namespace moe {

void add_eval_causal(CLI::App& parent);

}  // namespace moe
