#pragma once

#include <CLI/CLI.hpp>

namespace moe {

/// `moe tokenizer apply-template`
void add_apply_template_command(CLI::App& parent);

}  // namespace moe
