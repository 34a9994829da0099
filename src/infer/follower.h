#pragma once
/// A rank that makes the passes of rank 0 (infer/leader.h).

#include <optional>

#include "infer/loaded_model.h"
#include "ops/backend.h"
#include "ops/communicator.h"

namespace moe {

/// The work of every other rank: makes the calls of rank 0's Leader until its end(). `cache` is the type of the cache,
/// as in ModelOnDevice. Throws what the calls throw; the ranks must be told then.
void follow(Communicator& communicator, LoadedModel& loaded, Device& device, Backend& backend,
            std::optional<DType> cache = {});

}  // namespace moe
