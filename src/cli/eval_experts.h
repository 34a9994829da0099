#pragma once
/// `moe eval experts`: the routed experts that a dataset needs (ESFT).

#include <CLI/CLI.hpp>

namespace moe {

void add_eval_experts(CLI::App& parent);

}  // namespace moe
