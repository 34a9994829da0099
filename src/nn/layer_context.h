#pragma once
/// What a decoder layer knows about the microbatch. The model makes one context for each layer; the blocks of the layer
/// read it. The letters are those of nn/routers/routing_types.h.

#include "batch/token_views.h"
#include "nn/routers/routing_types.h"

namespace moe {

/// Keys and values of one layer, in pages (KvAppend).
struct LayerCache {
  View k;  ///< [N, P, Hkv h]
  View v;  ///< [N, P, Hkv h]
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
