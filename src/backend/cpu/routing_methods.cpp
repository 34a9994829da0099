#include "ops/routing_methods.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "backend/cpu/elements.h"
#include "backend/cpu/rank.h"
#include "base/random.h"
#include "ops/dropout.h"

namespace moe::cpu {
namespace {

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

/// True if a comes before b in the falling order of scores; among equal scores the lower index comes first.
template <class Score>
bool comes_before(int64_t a, int64_t b, const Score& score) {
  const float one = rank(score(a)), other = rank(score(b));
  return one > other || (one == other && a < b);
}

int64_t tokens_of_row(const int32_t* group, int64_t length) {
  return std::count_if(group, group + length, [](int32_t g) { return g >= 0; });
}

// Each expert accepts at most `capacity` choices of a row. The row's first choices queue in token order, then its
// second choices, and so on.
int64_t drop_beyond_capacity(const RouterDrop& op, int64_t row) {
  const int64_t begin = row * op.row_length, end = begin + op.row_length;
  const int64_t tokens = tokens_of_row(op.group.as<int32_t>() + begin, op.row_length);
  const int64_t capacity = expert_capacity(tokens, op.experts, op.factor);
  std::vector<int64_t> taken(static_cast<size_t>(op.experts));
  int64_t dropped = 0;
  for (int64_t k = 0; k < op.kept.size(1); ++k) {
    for (int64_t t = begin; t < end; ++t) {
      int32_t& id = row_as<int32_t>(op.kept, t)[k];
      if (id < 0 || ++taken[static_cast<size_t>(id)] <= capacity) continue;
      id = -1;
      ++dropped;
    }
  }
  return dropped;
}

}  // namespace

template <>
void execute(Context& context, const RouterDrop& op) {
  assert(values_in(op.ids, INT32_MIN, op.experts));
  const int64_t count = op.ids.size(1), rows = op.ids.size(0) / op.row_length;
  const auto* group = op.group.as<int32_t>();
  const Random random(op.draws.seed, op.draws.stream);
  std::vector<int64_t> dropped(static_cast<size_t>(rows));
  context.pool.parallel_for(rows, [&](int64_t row, int) {
    for (int64_t t = row * op.row_length; t < (row + 1) * op.row_length; ++t) {
      const auto* ids = row_as<int32_t>(op.ids, t);
      auto* kept = row_as<int32_t>(op.kept, t);
      std::copy(ids, ids + count, kept);
      if (op.threshold <= 0 || group[t] < 0) continue;
      const auto* gates = row_as<float>(op.gates, t);
      const float share = gates[1] / (gates[0] + gates[1]) / op.threshold;
      if (!(random.uniform(static_cast<uint64_t>(op.draws.first + t)) < static_cast<double>(share))) kept[1] = -1;
    }
    if (op.factor > 0) dropped[static_cast<size_t>(row)] = drop_beyond_capacity(op, row);
  });
  *op.dropped.as<int32_t>() += static_cast<int32_t>(std::accumulate(dropped.begin(), dropped.end(), int64_t{0}));
}

template <>
void execute(Context& context, const RouterJitter& op) {
  const int64_t width = op.x.size(1);
  const Random random(op.draws.seed, op.draws.stream);
  for_rows(context.pool, op.x.size(0), 200 * width, [&](int64_t begin, int64_t end) {
    std::vector<float> x(static_cast<size_t>(width)), y(x.size());
    for (int64_t t = begin; t < end; ++t) {
      convert(context, in_row(op.x, t), out_row(x.data()), width);
      if (op.accumulate) convert(context, in_row(op.y, t), out_row(y.data()), width);
      for (int64_t d = 0; d < width; ++d) {
        const double u = random.uniform(static_cast<uint64_t>((op.draws.first + t) * width + d));
        const auto factor = static_cast<float>(1 + static_cast<double>(op.amount) * (2 * u - 1));
        const auto i = static_cast<size_t>(d);
        y[i] = (op.accumulate ? y[i] : 0.0f) + x[i] * factor;
      }
      convert(context, in_row(y.data()), out_row(op.y, t), width);
    }
  });
}

template <>
void execute(Context& context, const Dropout& op) {
  const int64_t width = op.x.size(1);
  const Random random(op.draws.seed, op.draws.stream);
  const auto probability = static_cast<double>(op.probability);
  const auto factor = static_cast<float>(1 / (1 - probability));
  const int64_t rows = op.row_count ? *op.row_count.as<int32_t>() : op.x.size(0);
  for_rows(context.pool, rows, 200 * width, [&](int64_t begin, int64_t end) {
    std::vector<float> x(static_cast<size_t>(width)), y(x.size());
    for (int64_t t = begin; t < end; ++t) {
      const int64_t key = op.draws.first + (op.keys ? op.keys.as<int32_t>()[t] : t);
      convert(context, in_row(op.x, t), out_row(x.data()), width);
      if (op.accumulate) convert(context, in_row(op.y, t), out_row(y.data()), width);
      for (int64_t d = 0; d < width; ++d) {
        const bool dropped = random.uniform(static_cast<uint64_t>(key * width + d)) < probability;
        const auto i = static_cast<size_t>(d);
        y[i] = (op.accumulate ? y[i] : 0.0f) + (dropped ? 0.0f : x[i] * factor);
      }
      convert(context, in_row(y.data()), out_row(op.y, t), width);
    }
  });
}

template <>
void execute(Context& context, const RouterNoise& op) {
  const int64_t experts = op.clean.size(1);
  const Random random(op.draws.seed, op.draws.stream);
  for_rows(context.pool, op.clean.size(0), 400 * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto *clean = row_as<float>(op.clean, t), *raw = row_as<float>(op.raw, t);
      auto* noisy = row_as<float>(op.noisy, t);
      for (int64_t e = 0; e < experts; ++e) {
        const double n = random.normal(static_cast<uint64_t>((op.draws.first + t) * experts + e));
        noisy[e] = static_cast<float>(clean[e] + n * softplus(raw[e]));
      }
    }
  });
}

namespace {

/// The K-th and the next of a token's noisy logits in falling order. One of them is the threshold of each expert.
struct Thresholds {
  int64_t kth, next;
  bool chosen(const float* noisy, int64_t e) const {
    return comes_before(e, next, [&](int64_t i) { return noisy[i]; });
  }
  int64_t of(const float* noisy, int64_t e) const { return chosen(noisy, e) ? next : kth; }
};

Thresholds thresholds(const float* noisy, int64_t experts, int64_t top_k, std::vector<int64_t>& order) {
  order.resize(static_cast<size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + top_k + 1, order.end(),
                    [&](int64_t a, int64_t b) { return comes_before(a, b, [&](int64_t i) { return noisy[i]; }); });
  return {order[static_cast<size_t>(top_k - 1)], order[static_cast<size_t>(top_k)]};
}

}  // namespace

template <>
void execute(Context& context, const NoiseLoad& op) {
  const int64_t experts = op.clean.size(1);
  for_rows(context.pool, op.clean.size(0), 400 * experts, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> order;
    for (int64_t t = begin; t < end; ++t) {
      const auto *clean = row_as<float>(op.clean, t), *raw = row_as<float>(op.raw, t),
                 *noisy = row_as<float>(op.noisy, t);
      auto* load = row_as<float>(op.load, t);
      const Thresholds limits = thresholds(noisy, experts, op.top_k, order);
      for (int64_t e = 0; e < experts; ++e) {
        const double distance = static_cast<double>(clean[e]) - static_cast<double>(noisy[limits.of(noisy, e)]);
        load[e] = static_cast<float>(0.5 * std::erfc(-distance / softplus(raw[e]) * std::sqrt(0.5)));
      }
    }
  });
}

template <>
void execute(Context& context, const NoiseBackward& op) {
  const int64_t experts = op.clean.size(1);
  const auto* group = op.group.as<int32_t>();
  const Random random(op.draws.seed, op.draws.stream);
  for_rows(context.pool, op.clean.size(0), 800 * experts, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> order;
    std::vector<double> by_noisy(static_cast<size_t>(experts)), by_clean(by_noisy.size()), by_spread(by_noisy.size());
    for (int64_t t = begin; t < end; ++t) {
      const auto *clean = row_as<float>(op.clean, t), *raw = row_as<float>(op.raw, t),
                 *noisy = row_as<float>(op.noisy, t);
      const auto* d_noisy = row_as<float>(op.d_noisy, t);
      auto *d_clean = row_as<float>(op.d_clean, t), *d_raw = row_as<float>(op.d_raw, t);
      std::copy(d_noisy, d_noisy + experts, by_noisy.begin());
      std::fill(by_clean.begin(), by_clean.end(), 0.0);
      std::fill(by_spread.begin(), by_spread.end(), 0.0);
      if (op.coefficients && group[t] >= 0) {
        const auto* coefficients = row_as<float>(op.coefficients, group[t]);
        const Thresholds limits = thresholds(noisy, experts, op.top_k, order);
        for (int64_t e = 0; e < experts; ++e) {
          const auto i = static_cast<size_t>(e);
          const int64_t threshold = limits.of(noisy, e);
          const double spread = softplus(raw[e]);
          const double z = (static_cast<double>(clean[e]) - static_cast<double>(noisy[threshold])) / spread;
          const double slope =
              static_cast<double>(coefficients[e]) * std::exp(-0.5 * z * z) * 0.3989422804014327 / spread;
          by_clean[i] += slope;
          by_noisy[static_cast<size_t>(threshold)] -= slope;
          by_spread[i] -= slope * z;
        }
      }
      for (int64_t e = 0; e < experts; ++e) {
        const auto i = static_cast<size_t>(e);
        const double n = random.normal(static_cast<uint64_t>((op.draws.first + t) * experts + e));
        d_clean[e] = static_cast<float>(by_noisy[i] + by_clean[i]);
        d_raw[e] = static_cast<float>((by_noisy[i] * n + by_spread[i]) / (1 + std::exp(-static_cast<double>(raw[e]))));
      }
    }
  });
}

template <>
void execute(Context&, const TableRoute& op) {
  assert(values_in(op.tokens, 0, op.table.size(0)));
  const auto *tokens = op.tokens.as<int32_t>(), *table = op.table.as<int32_t>(), *group = op.group.as<int32_t>();
  for (int64_t t = 0; t < op.ids.size(0); ++t) *row_as<int32_t>(op.ids, t) = group[t] < 0 ? -1 : table[tokens[t]];
}

template <>
void execute(Context& context, const ExpertChoice& op) {
  const int64_t experts = op.scores.size(1), length = op.row_length;
  const auto* group = op.group.as<int32_t>();
  context.pool.parallel_for(op.scores.size(0) / length, [&](int64_t row, int) {
    const int64_t begin = row * length;
    const int64_t tokens = tokens_of_row(group + begin, length);
    const int64_t count = tokens_per_expert(tokens, experts, op.factor);
    std::vector<int64_t> order;
    for (int64_t t = begin; t < begin + length; ++t) {
      std::fill_n(row_as<int32_t>(op.ids, t), experts, -1);
      if (group[t] >= 0) order.push_back(t);
    }
    for (int64_t e = 0; e < experts; ++e) {
      const auto score = [&](int64_t t) { return row_as<float>(op.scores, t)[e]; };
      std::partial_sort(order.begin(), order.begin() + count, order.end(),
                        [&](int64_t a, int64_t b) { return comes_before(a, b, score); });
      for (int64_t i = 0; i < count; ++i)
        row_as<int32_t>(op.ids, order[static_cast<size_t>(i)])[e] = static_cast<int32_t>(e);
    }
  });
}

template <>
void execute(Context& context, const Distillation& op) {
  const int64_t experts = op.scores.size(1);
  const auto* group = op.group.as<int32_t>();
  const auto weight = static_cast<double>(op.weight) * static_cast<double>(*op.inv_tokens.as<float>());
  if (op.d_logits) {
    for_rows(context.pool, op.scores.size(0), 8 * experts, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const auto* scores = row_as<float>(op.scores, t);
        auto* d = row_as<float>(op.d_logits, t);
        const int32_t id = *row_as<int32_t>(op.ids, t);
        for (int64_t e = 0; e < experts; ++e) {
          d[e] = group[t] < 0 ? 0 : static_cast<float>(weight * (static_cast<double>(scores[e]) - (e == id ? 1 : 0)));
        }
      }
    });
  }
  if (!op.loss) return;
  double loss = 0;
  for (int64_t t = 0; t < op.scores.size(0); ++t) {
    if (group[t] < 0) continue;
    const float score = row_as<float>(op.scores, t)[*row_as<int32_t>(op.ids, t)];
    loss -= std::log(std::max(static_cast<double>(score), 1e-38));
  }
  *op.loss.as<float>() += static_cast<float>(weight * loss);
}

}  // namespace moe::cpu
