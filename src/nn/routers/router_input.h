#pragma once

#include "nn/layer_context.h"

namespace moe {

/// What a router reads. It refers to its parts.
struct RouterInput {
  const RouterConfig& config;
  const BalanceConfig& balance;
  const LayerContext& context;
  View x;  ///< [T, D]

  /// The balance group of each token.
  const View& group() const { return context.groups.group ? context.groups.group : context.tokens.valid; }
};

}  // namespace moe
