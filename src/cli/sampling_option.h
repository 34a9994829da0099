#pragma once
/// The options that say how the next token is chosen and when a text ends.

#include <CLI/CLI.hpp>

#include "infer/generation.h"

namespace moe {

/// Declares `--max-new-tokens`, `--context`, `--temperature`, `--top-k`, `--top-p`, `--min-p`, the three penalties,
/// `--stop` and `--seed`. The values of `options` are the defaults.
void add_sampling_options(CLI::App& command, GenerationOptions& options);

}  // namespace moe
