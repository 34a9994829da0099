#pragma once

#include "backend/cuda/context.h"
#include "ops/rotated_append.h"

namespace moe::cuda {

/// Both operations in one kernel; false, with nothing queued, for what it does not support.
bool rotated_append(Context& context, const RotatedAppend& op);

}  // namespace moe::cuda
