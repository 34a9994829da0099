#pragma once
/// What a decoder layer knows about the microbatch. The model makes one context for each layer; the blocks of the layer
/// read it. The letters are those of nn/routers/routing_types.h.

#include "batch/token_views.h"
#include "nn/routers/routing_types.h"

namespace moe {

/// Keys and values of one layer.
struct LayerCache {
  View k;  ///< [S, L, Hkv h]
  View v;  ///< [S, L, Hkv h]
};

struct LayerContext {
  const TokenViews& tokens;
  BalanceViews groups = {};  ///< absent in inference
  LayerStats stats = {};
  RouteMode mode = {};
  int64_t layer = 0;
  RouteChoice choice = {};  ///< for MoE layers: filled in forward; with `replay` it is read
  bool replay = false;
  const LayerCache* cache = nullptr;  ///< in generation
};

}  // namespace moe
