#include <cmath>
#include <set>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {

void compute(const RouterCounts& op) {
  const Indices ids = read_indices(op.ids), group = read_indices(op.group);
  Indices counts = read_indices(op.counts);
  for (int64_t t = 0; t < ids.size(0); ++t) {
    std::set<int64_t> reached;
    for (int64_t k = 0; k < ids.size(1); ++k) {
      if (group(t) >= 0 && ids(t, k) >= 0) reached.insert(ids(t, k) * counts.size(1) / op.experts);
    }
    for (const int64_t column : reached) ++counts(group(t), column);
  }
  write(op.counts, counts);
}

void compute(const BalanceCoefficients& op) {
  const Indices counts = read_indices(op.counts), group_tokens = read_indices(op.group_tokens);
  const double inv_tokens = read(op.inv_tokens)(0);
  Reals coefficients = op.accumulate ? read(op.coefficients) : Reals(op.coefficients.shape);
  const int64_t columns = counts.size(1), members = op.coefficients.size(1) / columns,
                device_columns = columns / op.devices;
  for (int64_t g = 0; g < counts.size(0); ++g) {
    if (group_tokens(g) == 0) continue;
    const double per_count = static_cast<double>(columns) / static_cast<double>(op.top_k * group_tokens(g));
    for (int64_t i = 0; i < op.coefficients.size(1); ++i) {
      const int64_t first = i / members / device_columns * device_columns;
      double mean_f = 0;
      for (int64_t j = first; j < first + device_columns; ++j) {
        mean_f += per_count * static_cast<double>(counts(g, j)) / static_cast<double>(device_columns);
      }
      coefficients(g, i) += static_cast<double>(op.alpha) * inv_tokens * (mean_f - static_cast<double>(op.offset));
    }
  }
  write(op.coefficients, coefficients);
}

void compute(const BalanceLoss& op) {
  const Reals scores = read(op.scores), coefficients = read(op.coefficients);
  const Indices group = read_indices(op.group);
  Reals loss = read(op.loss);
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    double sum = 0;
    for (int64_t i = 0; i < scores.size(1); ++i) sum += scores(t, i);
    for (int64_t i = 0; i < scores.size(1); ++i) {
      loss(0) += coefficients(group(t), i) * scores(t, i) / (op.normalized ? sum : 1);
    }
  }
  write(op.loss, loss);
}

void compute(const GateLoss& op) {
  const Reals gates = read(op.gates), coefficients = read(op.coefficients);
  const Indices ids = read_indices(op.ids), group = read_indices(op.group);
  Reals loss = read(op.loss);
  for (int64_t t = 0; t < gates.size(0); ++t) {
    for (int64_t k = 0; k < gates.size(1); ++k) {
      if (group(t) >= 0 && ids(t, k) >= 0) loss(0) += coefficients(group(t), ids(t, k)) * gates(t, k);
    }
  }
  write(op.loss, loss);
}

void compute(const RouterZLoss& op) {
  const Reals log_sum = read(op.log_sum);
  const Indices group = read_indices(op.group);
  Reals loss = read(op.loss);
  for (int64_t t = 0; t < log_sum.size(0); ++t) {
    if (group(t) >= 0) loss(0) += static_cast<double>(op.weight) * read(op.inv_tokens)(0) * log_sum(t) * log_sum(t);
  }
  write(op.loss, loss);
}

void compute(const ExpertSums& op) {
  const Reals values = read(op.values);
  const Indices group = read_indices(op.group);
  const Indices ids = op.ids ? read_indices(op.ids) : Indices();
  Reals sums = read(op.sums);
  for (int64_t t = 0; t < values.size(0); ++t) {
    for (int64_t k = 0; k < values.size(1); ++k) {
      const int64_t expert = op.ids ? ids(t, k) : k;
      if (group(t) >= 0 && expert >= 0) sums(group(t), expert) += values(t, k);
    }
  }
  write(op.sums, sums);
}

void compute(const VariationLoss& op) {
  const Reals sums = read(op.sums);
  const Indices group_tokens = read_indices(op.group_tokens);
  const auto size = static_cast<double>(sums.size(1));
  Reals loss = op.loss ? read(op.loss) : Reals(Shape{1});
  Reals coefficients(op.sums.shape);
  for (int64_t g = 0; g < sums.size(0); ++g) {
    double mean = 0, variance = 0;
    for (int64_t e = 0; e < sums.size(1); ++e) mean += sums(g, e) / size;
    for (int64_t e = 0; e < sums.size(1); ++e) variance += (sums(g, e) - mean) * (sums(g, e) - mean) / size;
    if (mean == 0) continue;
    const double weight =
        static_cast<double>(op.weight) * static_cast<double>(group_tokens(g)) * read(op.inv_tokens)(0);
    loss(0) += weight * variance / (mean * mean);
    for (int64_t e = 0; e < sums.size(1); ++e) {
      const double by_variance = 2 * (sums(g, e) - mean) / size / (mean * mean);
      const double by_mean = -2 * variance / (mean * mean * mean) / size;
      coefficients(g, e) = weight * (by_variance + by_mean);
    }
  }
  if (op.loss) write(op.loss, loss);
  if (op.coefficients) write(op.coefficients, coefficients);
}

void compute(const BiasUpdate& op) {
  const Indices counts = read_indices(op.counts);
  Reals bias = read(op.bias);
  double mean = 0;
  for (int64_t e = 0; e < counts.size(0); ++e) mean += static_cast<double>(counts(e));
  mean /= static_cast<double>(counts.size(0));
  for (int64_t e = 0; e < counts.size(0); ++e) {
    const double difference = mean - static_cast<double>(counts(e));
    if (std::abs(difference) < 1e-9) continue;
    bias(e) += difference > 0 ? static_cast<double>(op.rate) : -static_cast<double>(op.rate);
  }
  write(op.bias, bias);
}

}  // namespace moe::oracle
