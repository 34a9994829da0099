#pragma once
/// The product of a linear map as a part of a fusion (ops/routed_ffn.h).

#include "nn/linear.h"

namespace moe {

/// True if the map's result is the product alone: it has no bias and no adapter.
bool is_plain(const Linear& map);

/// y [n, O] = x W^T of such a map.
Gemm linear_product(const Linear& map, View x, View y);

}  // namespace moe
