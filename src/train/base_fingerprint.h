#pragma once
/// A number for the weights that a run trains adapters beside, which its checkpoints do not hold.

#include <vector>

#include "ops/device.h"
#include "tensor/view.h"

namespace moe {

/// Of the bytes of all views, in order. Two models with it in common are the same for the run; another storage type
/// gives another number. It reads everything once, some megabytes at a time. Never 0.
uint64_t content_fingerprint(const std::vector<View>& views, Device& device);

}  // namespace moe
