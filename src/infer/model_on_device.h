#pragma once

#include "model/model.h"
#include "ops/device.h"

namespace moe {

/// Where a model runs. All members must outlive what is made from them.
struct ModelOnDevice {
  const Model& model;
  DType dtype;  ///< of activations
  Device& device;
  Backend& backend;
};

}  // namespace moe
