#pragma once

#include <optional>

#include "model/model.h"
#include "ops/device.h"

namespace moe {

/// The types of what a pass computes.
struct PassTypes {
  /// The cache has the type of the activations.
  PassTypes(DType all)
      : activations(all), cache(all) {}  // NOLINT(google-explicit-constructor): a type alone says it all
  PassTypes(DType others, DType keys_and_values) : activations(others), cache(keys_and_values) {}

  DType activations;
  DType cache;  ///< of keys and values
};

/// The type of a cache of keys and values unless another is asked for: that of the activations, or f16 beside weights
/// in blocks, whose rounding is far coarser, on a backend that computes with such a cache.
DType default_cache_type(const Backend& backend, DType activations, bool weights_in_blocks);

class Leader;

/// Where a model runs. All members must outlive what is made from them.
struct ModelOnDevice {
  const Model& model;
  DType dtype;  ///< of activations
  Device& device;
  Backend& backend;
  std::optional<DType> cache = {};  ///< the type of a cache of keys and values; absent: that of the activations
  /// Of rank 0, if ranks have the model together: tells the others its passes (infer/leader.h).
  Leader* leader = nullptr;

  PassTypes types() const { return {dtype, cache.value_or(dtype)}; }
};

}  // namespace moe
