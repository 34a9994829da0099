#pragma once
/// The batches of a run.

#include "data/batch_source.h"
#include "data/shards.h"
#include "train/run_config.h"

namespace moe {

/// Packs and orders the documents as training does. `dataset` must outlive the result.
BatchSource training_batches(const DataConfig& data, uint64_t seed, const Dataset& dataset);

/// The same for steps that are only timed: preferences have a reference of zeros, which takes the same time as any.
BatchSource timed_batches(const RunConfig& run, const Dataset& dataset);

}  // namespace moe
