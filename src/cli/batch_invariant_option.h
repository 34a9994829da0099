#pragma once

#include <CLI/CLI.hpp>

namespace moe {

/// Declares `--batch-invariant`: the process's kernels on a GPU are those whose results do not depend on the batch.
/// `given` tells if it was.
void add_batch_invariant_option(CLI::App& command, bool& given);

}  // namespace moe
