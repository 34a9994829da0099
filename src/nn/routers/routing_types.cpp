#include "nn/routers/routing_types.h"

#include "base/error.h"
#include "base/random.h"

namespace moe {

const char* name(RoutingMethod method) {
  switch (method) {
    case RoutingMethod::topk:
      return "topk";
    case RoutingMethod::noisy_topk:
      return "noisy_topk";
    case RoutingMethod::hash:
      return "hash";
    case RoutingMethod::expert_choice:
      return "expert_choice";
    case RoutingMethod::stable:
      return "stable";
  }
  return "?";
}

int64_t RouterConfig::rows(int64_t tokens, int64_t row_length) const {
  if (method != RoutingMethod::expert_choice || row_length == 0) return tokens * slots();
  return tokens / row_length * experts * tokens_per_expert(row_length, experts, capacity);
}

Draws RouteMode::draws(std::string_view what, int64_t layer) const {
  return {.seed = seed, .stream = hash_name(fmt::format("{}.{}.{}", what, layer, step)), .first = first_token};
}

}  // namespace moe
