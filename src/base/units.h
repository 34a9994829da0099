#pragma once
/// Numbers in the units that people read.

#include <cstdint>

namespace moe {

constexpr double gib(double bytes) { return bytes / 1073741824.0; }
constexpr double gib(int64_t bytes) { return gib(static_cast<double>(bytes)); }

}  // namespace moe
