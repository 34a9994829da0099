#pragma once
/// `moe tokenizer import`.

#include <CLI/CLI.hpp>

namespace moe {

void add_tokenizer_import_command(CLI::App& parent);

}  // namespace moe
