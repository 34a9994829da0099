#pragma once
/// Flags for kernels of a recorded step that wait for one earlier kernel instead of all.

#include <optional>

#include "backend/cuda/context.h"

namespace moe::cuda {

/// Flags that nothing else in this recording uses; the first call queues a kernel that sets all of them to 0. Nothing
/// if kernels cannot start early here, or all flags are taken.
std::optional<Handover> take_handover(const Context& context, Written* recording);

}  // namespace moe::cuda
