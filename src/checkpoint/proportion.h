#pragma once
/// Whether files can hold the weights that a configuration asks for.

#include <vector>

#include "base/file.h"
#include "model/parameters.h"

namespace moe {

/// Refuses a configuration that asks for far more parameters than the files can hold; there is at least one file. It is
/// called before the names of all tensors are listed: a few numbers in a small file could ask for more names than fit
/// the memory.
void require_in_proportion(const std::vector<Parameter>& table, const std::vector<fs::path>& files);

}  // namespace moe
