#pragma once
/// The oracle: every operation written naively in double precision, from the equations in src/ops, on one thread.

#include <memory>

#include "ops/backend.h"

namespace moe {

/// Reads and writes views of any dtype; arithmetic is in double. With f64 views nothing is rounded, so blocks can be
/// compared with central differences.
std::unique_ptr<Backend> make_oracle();

}  // namespace moe
