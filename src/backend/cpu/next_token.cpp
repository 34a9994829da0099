#include "ops/next_token.h"

#include <cmath>

#include "backend/cpu/elements.h"

namespace moe::cpu {
namespace {

int32_t most_likely(const float* logits, const int32_t* allowed, int64_t vocabulary) {
  int64_t best = -1;
  for (int64_t v = 0; v < vocabulary; ++v) {
    if (allowed != nullptr && allowed[v] == 0) continue;
    if (!(logits[v] < HUGE_VALF)) return -1;
    if (logits[v] > (best < 0 ? -HUGE_VALF : logits[best])) best = v;
  }
  return static_cast<int32_t>(best);
}

}  // namespace

template <>
void execute(Context& context, const NextToken& op) {
  const auto* const allowed = op.allowed ? op.allowed.as<const int32_t>() : nullptr;
  const int64_t vocabulary = op.logits.size(1);
  auto* const ids = op.ids.as<int32_t>();
  auto* const positions = op.positions.as<int32_t>();
  auto* const steps = op.steps.as<int32_t>();
  for_rows(context.pool, op.ids.size(0), 2 * vocabulary, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      ids[t] = most_likely(op.logits.as<const float>() + t * op.logits.stride[0], allowed, vocabulary);
      ++positions[t];
      if (steps[t] < op.log.size(0)) op.log.as<int32_t>()[steps[t] * op.log.stride[0] + t] = ids[t];
      ++steps[t];
    }
  });
}

}  // namespace moe::cpu
