#pragma once
/// The MoE layer of tokens that only pass through, as one operation (ops/routed_ffn.h).

#include "nn/moe.h"

namespace moe {

/// True if the layer may be one operation: with a cache, no losses, no adapters, no questions about the choice.
bool may_be_one_operation(const MoeWeights& weights, const LayerContext& context);

/// moe_forward() of x = norm.y for such a layer, and the norm before it.
MoeSaved moe_forward(Pass& pass, const MoeConfig& config, const MoeWeights& weights, const LayerContext& context,
                     const RmsNorm& norm, View residual, View y);

}  // namespace moe
