#pragma once
/// The sum of few tokens' rows and the norm of it in one kernel: the start of a kernel costs more than either.

#include "backend/cuda/context.h"
#include "ops/routing.h"
#include "ops/rows.h"

namespace moe::cuda {

/// Whether `norm` is the norm of what `combine` gives, and both have a shape that the kernel takes.
bool suits_combined_norm(const Context& context, const RowsCombine& combine, const RmsNorm& norm);
/// Both, with the bits of both in turn.
void combined_norm(Context& context, const RowsCombine& combine, const RmsNorm& norm);

}  // namespace moe::cuda
