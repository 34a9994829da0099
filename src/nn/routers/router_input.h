#pragma once

#include <optional>

#include "nn/layer_context.h"
#include "ops/routing.h"

namespace moe {

/// What a router reads. It refers to its parts.
struct RouterInput {
  const RouterConfig& config;
  const BalanceConfig& balance;
  const LayerContext& context;
  View x;  ///< [T, D]
  /// Where a choice that is one operation is left instead of being run; null: it is run.
  std::optional<RouteTokens>* held = nullptr;

  /// The balance group of each token.
  const View& group() const { return context.groups.group ? context.groups.group : context.tokens.valid; }
};

}  // namespace moe
