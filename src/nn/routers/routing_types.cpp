#include "nn/routers/routing_types.h"

#include "base/error.h"
#include "base/random.h"

namespace moe {

Draws RouteMode::draws(std::string_view what, int64_t layer) const {
  return {.seed = seed, .stream = hash_name(fmt::format("{}.{}.{}", what, layer, step)), .first = first_token};
}

}  // namespace moe
