#pragma once
/// `moe tokenizer compare`.

#include <CLI/CLI.hpp>

namespace moe {

void add_tokenizer_compare_command(CLI::App& parent);

}  // namespace moe
