#include "ops/balance.h"

#include <cassert>
#include <vector>

#include "backend/cpu/elements.h"

namespace moe::cpu {
namespace {

/// The sum of value(t) over tokens that are not padding: partial sums for blocks of rows, added in order. The blocks
/// depend only on the shape.
template <class Value>
double sum_over_tokens(Context& context, const View& group, const Value& value) {
  const int64_t rows = group.size(0);
  const auto* groups = group.as<int32_t>();
  const auto max_blocks = static_cast<int64_t>(Scratch::kBytes / sizeof(double));
  const int64_t step = std::max<int64_t>(256, (rows + max_blocks - 1) / max_blocks);
  const int64_t blocks = (rows + step - 1) / step;
  auto* partials = static_cast<double*>(context.scratch.of(0));
  context.pool.parallel_for(blocks, [&](int64_t block, int) {
    double sum = 0;
    for (int64_t t = block * step; t < std::min(rows, (block + 1) * step); ++t) {
      if (groups[t] >= 0) sum += value(t);
    }
    partials[block] = sum;
  });
  double sum = 0;
  for (int64_t block = 0; block < blocks; ++block) sum += partials[block];
  return sum;
}

}  // namespace

template <>
void execute(Context&, const RouterCounts& op) {
  assert(values_in(op.ids, INT32_MIN, op.experts));
  assert(values_in(op.group, INT32_MIN, op.counts.size(0)));
  const auto* group = op.group.as<int32_t>();
  const int64_t members = op.experts / op.counts.size(1);
  for (int64_t t = 0; t < op.ids.size(0); ++t) {
    if (group[t] < 0) continue;
    const auto* ids = row_as<int32_t>(op.ids, t);
    auto* counts = row_as<int32_t>(op.counts, group[t]);
    for (int64_t k = 0; k < op.ids.size(1); ++k) {
      if (ids[k] < 0) continue;
      const int64_t column = ids[k] / members;
      bool counted = false;
      for (int64_t j = 0; j < k && members > 1; ++j) counted |= ids[j] >= 0 && ids[j] / members == column;
      if (!counted) ++counts[column];
    }
  }
}

template <>
void execute(Context&, const BalanceCoefficients& op) {
  const int64_t columns = op.counts.size(1);
  const int64_t members = op.coefficients.size(1) / columns;
  const int64_t neighbours = columns / op.devices;
  const auto* group_tokens = op.group_tokens.as<int32_t>();
  const double weight = static_cast<double>(op.alpha) * static_cast<double>(*op.inv_tokens.as<float>());
  for (int64_t g = 0; g < op.counts.size(0); ++g) {
    const auto* counts = row_as<int32_t>(op.counts, g);
    auto* coefficients = row_as<float>(op.coefficients, g);
    const double slots = static_cast<double>(op.top_k) * static_cast<double>(group_tokens[g]);
    const bool any = group_tokens[g] > 0;
    const double per_count = any ? weight * op.devices / slots : 0.0;  // mean over C / D of C / (K T)
    const double offset = any ? weight * static_cast<double>(op.offset) : 0.0;
    for (int64_t first = 0; first < columns; first += neighbours) {
      int64_t count = 0;
      for (int64_t i = first; i < first + neighbours; ++i) count += counts[i];
      const auto value = static_cast<float>(per_count * static_cast<double>(count) - offset);
      for (int64_t i = first * members; i < (first + neighbours) * members; ++i)
        coefficients[i] = (op.accumulate ? coefficients[i] : 0) + value;
    }
  }
}

template <>
void execute(Context& context, const BalanceLoss& op) {
  const int64_t experts = op.scores.size(1);
  assert(values_in(op.group, INT32_MIN, op.coefficients.size(0)));
  const auto* group = op.group.as<int32_t>();
  *op.loss.as<float>() += static_cast<float>(sum_over_tokens(context, op.group, [&](int64_t t) {
    const auto* scores = row_as<float>(op.scores, t);
    const auto* coefficients = row_as<float>(op.coefficients, group[t]);
    double sum = static_cast<double>(context.kernels.rows.softmax.dot(scores, coefficients, experts));
    if (!op.normalized) return sum;
    double total = 0;
    for (int64_t e = 0; e < experts; ++e) total += static_cast<double>(scores[e]);
    return sum / total;
  }));
}

template <>
void execute(Context& context, const GateLoss& op) {
  const auto* group = op.group.as<int32_t>();
  *op.loss.as<float>() += static_cast<float>(sum_over_tokens(context, op.group, [&](int64_t t) {
    const auto* gates = row_as<float>(op.gates, t);
    const auto* ids = row_as<int32_t>(op.ids, t);
    const auto* coefficients = row_as<float>(op.coefficients, group[t]);
    double sum = 0;
    for (int64_t k = 0; k < op.ids.size(1); ++k) {
      if (ids[k] >= 0) sum += static_cast<double>(coefficients[ids[k]]) * static_cast<double>(gates[k]);
    }
    return sum;
  }));
}

template <>
void execute(Context& context, const RouterZLoss& op) {
  const auto* log_sum = op.log_sum.as<float>();
  const double sum = sum_over_tokens(
      context, op.group, [&](int64_t t) { return static_cast<double>(log_sum[t]) * static_cast<double>(log_sum[t]); });
  *op.loss.as<float>() += static_cast<float>(static_cast<double>(op.weight) * *op.inv_tokens.as<float>() * sum);
}

// Each task owns some experts and visits all tokens. Sums are in double.
template <>
void execute(Context& context, const ExpertSums& op) {
  const int64_t experts = op.sums.size(1), groups = op.sums.size(0), count = op.values.size(1);
  const auto* group = op.group.as<int32_t>();
  assert(values_in(op.group, INT32_MIN, groups));
  context.pool.parallel_for(experts, [&](int64_t expert, int) {
    std::vector<double> sums(static_cast<size_t>(groups));
    for (int64_t t = 0; t < op.values.size(0); ++t) {
      if (group[t] < 0) continue;
      double& sum = sums[static_cast<size_t>(group[t])];
      const auto* values = row_as<float>(op.values, t);
      if (!op.ids) {
        sum += static_cast<double>(values[expert]);
        continue;
      }
      const auto* ids = row_as<int32_t>(op.ids, t);
      for (int64_t k = 0; k < count; ++k) sum += ids[k] == expert ? static_cast<double>(values[k]) : 0.0;
    }
    for (int64_t g = 0; g < groups; ++g) {
      float& value = row_as<float>(op.sums, g)[expert];
      value = static_cast<float>(static_cast<double>(value) + sums[static_cast<size_t>(g)]);
    }
  });
}

// CV^2 = E sum s^2 / (sum s)^2 - 1.
template <>
void execute(Context&, const VariationLoss& op) {
  const int64_t experts = op.sums.size(1);
  const auto* group_tokens = op.group_tokens.as<int32_t>();
  double loss = 0;
  for (int64_t g = 0; g < op.sums.size(0); ++g) {
    const auto* sums = row_as<float>(op.sums, g);
    double total = 0, squares = 0;
    for (int64_t e = 0; e < experts; ++e) {
      total += static_cast<double>(sums[e]);
      squares += static_cast<double>(sums[e]) * static_cast<double>(sums[e]);
    }
    const double weight =
        static_cast<double>(op.weight) * group_tokens[g] * static_cast<double>(*op.inv_tokens.as<float>());
    const auto size = static_cast<double>(experts);
    const bool any = total > 0;
    if (any) loss += weight * (size * squares / (total * total) - 1);
    if (!op.coefficients) continue;
    auto* coefficients = row_as<float>(op.coefficients, g);
    for (int64_t e = 0; e < experts; ++e) {
      const double slope = any ? 2 * size / (total * total) * (static_cast<double>(sums[e]) - squares / total) : 0.0;
      coefficients[e] = static_cast<float>(weight * slope);
    }
  }
  if (op.loss) *op.loss.as<float>() += static_cast<float>(loss);
}

template <>
void execute(Context&, const BiasUpdate& op) {
  const int64_t experts = op.counts.size(0);
  const auto* counts = op.counts.as<int32_t>();
  auto* bias = op.bias.as<float>();
  int64_t total = 0;
  for (int64_t e = 0; e < experts; ++e) total += counts[e];
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t above = total - experts * counts[e];  // E (mean - count)
    bias[e] += above > 0 ? op.rate : (above < 0 ? -op.rate : 0.0f);
  }
}

}  // namespace moe::cpu
