#pragma once

#include "backend/cuda/context.h"
#include "ops/rotated_attention.h"

namespace moe::cuda {

/// Rotation and append in one kernel; false, with nothing queued, for what it does not support.
bool rotated_append(Context& context, const Rope& rope, const KvAppend& append);

/// Attention of a few tokens, each by itself, whose query heads have a key head each, on Hopper: several blocks divide
/// the keys of a head and add up in shared memory. False, with nothing queued, for what it does not support.
bool attend_few(Context& context, const CachedAttention& op);
/// The same for a single token together with its rotation and append, with the bits of all three in turn.
bool attend_new(Context& context, const RotatedAttention& op);

}  // namespace moe::cuda
