#include <cassert>

#include "backend/cpu/elements.h"
#include "ops/routing.h"

namespace moe::cpu {

template <>
void execute(Context&, const BalanceCoefficients& op) {
  const int64_t experts = op.counts.size(1);
  const int64_t neighbours = experts / op.devices;
  const auto* group_tokens = op.group_tokens.as<int32_t>();
  const double weight = static_cast<double>(op.alpha) * static_cast<double>(*op.inv_tokens.as<float>());
  for (int64_t g = 0; g < op.counts.size(0); ++g) {
    const auto* counts = row_as<int32_t>(op.counts, g);
    auto* coefficients = row_as<float>(op.coefficients, g);
    const double slots = static_cast<double>(op.top_k) * static_cast<double>(group_tokens[g]);
    const double per_count = group_tokens[g] > 0 ? weight * op.devices / slots : 0.0;  // mean over E / D of E / (K T)
    for (int64_t first = 0; first < experts; first += neighbours) {
      int64_t count = 0;
      for (int64_t i = first; i < first + neighbours; ++i) count += counts[i];
      const auto value = static_cast<float>(per_count * static_cast<double>(count));
      for (int64_t i = first; i < first + neighbours; ++i)
        coefficients[i] = (op.accumulate ? coefficients[i] : 0) + value;
    }
  }
}

// Partial sums for blocks of rows that the shape alone decides, added in their order.
template <>
void execute(Context& context, const BalanceLoss& op) {
  const int64_t rows = op.scores.size(0);
  const int64_t experts = op.scores.size(1);
  assert(values_in(op.group, INT32_MIN, op.coefficients.size(0)));
  const auto* group = op.group.as<int32_t>();
  const auto max_blocks = static_cast<int64_t>(Scratch::kBytes / sizeof(double));
  const int64_t step = std::max<int64_t>(256, (rows + max_blocks - 1) / max_blocks);
  const int64_t blocks = (rows + step - 1) / step;
  auto* partials = static_cast<double*>(context.scratch.of(0));
  context.pool.parallel_for(blocks, [&](int64_t block, int) {
    double sum = 0;
    for (int64_t t = block * step; t < std::min(rows, (block + 1) * step); ++t) {
      if (group[t] < 0) continue;
      sum += static_cast<double>(context.kernels.rows.softmax.dot(row_as<float>(op.scores, t),
                                                                  row_as<float>(op.coefficients, group[t]), experts));
    }
    partials[block] = sum;
  });
  double sum = 0;
  for (int64_t block = 0; block < blocks; ++block) sum += partials[block];
  *op.loss.as<float>() += static_cast<float>(sum);
}

}  // namespace moe::cpu
