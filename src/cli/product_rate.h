#pragma once

#include "cli/device_option.h"

namespace moe {

/// FLOP/s of a product that takes a fraction of a second, measured on the device.
double measured_product_rate(Compute& compute, DType dtype);

}  // namespace moe
