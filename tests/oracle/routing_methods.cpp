#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"
#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {
namespace {

double softplus(double x) { return std::log1p(std::exp(x)); }

/// An order of all scores, those that are not numbers last.
double rank(double score) { return std::isnan(score) ? -std::numeric_limits<double>::infinity() : score; }

int64_t tokens_of_row(const Indices& group, int64_t row, int64_t length) {
  int64_t tokens = 0;
  for (int64_t t = row * length; t < (row + 1) * length; ++t) tokens += group(t) >= 0 ? 1 : 0;
  return tokens;
}

/// The K-th largest of a token's values without expert i.
int64_t threshold(const Reals& values, int64_t t, int64_t i, int64_t top_k) {
  std::vector<int64_t> others;
  for (int64_t e = 0; e < values.size(1); ++e) {
    if (e != i) others.push_back(e);
  }
  std::stable_sort(others.begin(), others.end(),
                   [&](int64_t a, int64_t b) { return rank(values(t, a)) > rank(values(t, b)); });
  return others[static_cast<size_t>(top_k - 1)];
}

double normal_draw(const Draws& draws, int64_t t, int64_t width, int64_t e) {
  return Random(draws.seed, draws.stream).normal(static_cast<uint64_t>((draws.first + t) * width + e));
}

}  // namespace

void compute(const RouterDrop& op) {
  const Indices ids = read_indices(op.ids), group = read_indices(op.group);
  const Reals gates = read(op.gates);
  Indices kept = ids, dropped = read_indices(op.dropped);
  const Random random(op.draws.seed, op.draws.stream);
  for (int64_t t = 0; t < ids.size(0) && op.threshold > 0; ++t) {
    if (group(t) < 0) continue;
    const double probability = gates(t, 1) / (gates(t, 0) + gates(t, 1)) / static_cast<double>(op.threshold);
    if (random.uniform(static_cast<uint64_t>(op.draws.first + t)) >= std::min(1.0, probability)) kept(t, 1) = -1;
  }
  for (int64_t row = 0; row < ids.size(0) / op.row_length && op.factor > 0; ++row) {
    const double factor = static_cast<double>(op.factor) / 1e6;
    const auto tokens = static_cast<double>(tokens_of_row(group, row, op.row_length));
    const double capacity = std::ceil(tokens * factor / static_cast<double>(op.experts) - 1e-9);
    std::vector<double> taken(static_cast<size_t>(op.experts));
    for (int64_t k = 0; k < ids.size(1); ++k) {
      for (int64_t t = row * op.row_length; t < (row + 1) * op.row_length; ++t) {
        if (kept(t, k) < 0) continue;
        double& slots = taken[static_cast<size_t>(kept(t, k))];
        if (slots == capacity) {
          kept(t, k) = -1;
          ++dropped(0);
        } else {
          ++slots;
        }
      }
    }
  }
  write(op.kept, kept);
  write(op.dropped, dropped);
}

void compute(const RouterJitter& op) {
  const Reals x = read(op.x);
  Reals y = op.accumulate ? read(op.y) : Reals(op.y.shape);
  const Random random(op.draws.seed, op.draws.stream);
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t d = 0; d < x.size(1); ++d) {
      const double u = random.uniform(static_cast<uint64_t>((op.draws.first + t) * x.size(1) + d));
      y(t, d) += x(t, d) * (1 + static_cast<double>(op.amount) * (2 * u - 1));
    }
  }
  write(op.y, y);
}

void compute(const Dropout& op) {
  const Reals x = read(op.x);
  const Indices keys = read_indices(op.keys), row_count = read_indices(op.row_count);
  Reals y = read(op.y);
  const Random random(op.draws.seed, op.draws.stream);
  const int64_t rows = op.row_count ? row_count(0) : x.size(0);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t d = 0; d < x.size(1); ++d) {
      const int64_t key = op.draws.first + (op.keys ? keys(t) : t);
      const double p = static_cast<double>(op.probability);
      const bool kept = random.uniform(static_cast<uint64_t>(key * x.size(1) + d)) >= p;
      y(t, d) = (op.accumulate ? y(t, d) : 0) + (kept ? x(t, d) / (1 - p) : 0);
    }
  }
  write(op.y, y);
}

void compute(const RouterNoise& op) {
  const Reals clean = read(op.clean), raw = read(op.raw);
  Reals noisy(op.noisy.shape);
  for (int64_t t = 0; t < clean.size(0); ++t) {
    for (int64_t e = 0; e < clean.size(1); ++e) {
      noisy(t, e) = clean(t, e) + normal_draw(op.draws, t, clean.size(1), e) * softplus(raw(t, e));
    }
  }
  write(op.noisy, noisy);
}

void compute(const NoiseLoad& op) {
  const Reals clean = read(op.clean), raw = read(op.raw), noisy = read(op.noisy);
  Reals load(op.load.shape);
  for (int64_t t = 0; t < clean.size(0); ++t) {
    for (int64_t e = 0; e < clean.size(1); ++e) {
      const double z = (clean(t, e) - noisy(t, threshold(noisy, t, e, op.top_k))) / softplus(raw(t, e));
      load(t, e) = std::erfc(-z / std::sqrt(2.0)) / 2;
    }
  }
  write(op.load, load);
}

void compute(const NoiseBackward& op) {
  const Reals clean = read(op.clean), raw = read(op.raw), noisy = read(op.noisy), coefficients = read(op.coefficients);
  const Indices group = read_indices(op.group);
  Reals by_noisy = read(op.d_noisy), d_clean(op.d_clean.shape), d_raw(op.d_raw.shape);
  for (int64_t t = 0; t < clean.size(0); ++t) {
    for (int64_t e = 0; e < clean.size(1) && op.coefficients && group(t) >= 0; ++e) {
      const int64_t limit = threshold(noisy, t, e, op.top_k);
      const double spread = softplus(raw(t, e)), z = (clean(t, e) - noisy(t, limit)) / spread;
      const double density = std::exp(-z * z / 2) / std::sqrt(2 * 3.141592653589793);
      const double d_z = coefficients(group(t), e) * density;
      d_clean(t, e) += d_z / spread;
      by_noisy(t, limit) -= d_z / spread;
      d_raw(t, e) -= d_z * z / spread;
    }
    for (int64_t e = 0; e < clean.size(1); ++e) {
      d_clean(t, e) += by_noisy(t, e);
      d_raw(t, e) += by_noisy(t, e) * normal_draw(op.draws, t, clean.size(1), e);
      d_raw(t, e) /= 1 + std::exp(-raw(t, e));
    }
  }
  write(op.d_clean, d_clean);
  write(op.d_raw, d_raw);
}

void compute(const TableRoute& op) {
  const Indices tokens = read_indices(op.tokens), table = read_indices(op.table), group = read_indices(op.group);
  Indices ids(op.ids.shape, -1);
  for (int64_t t = 0; t < ids.size(0); ++t) {
    if (group(t) >= 0) ids(t, 0) = table(tokens(t));
  }
  write(op.ids, ids);
}

void compute(const ExpertChoice& op) {
  const Reals scores = read(op.scores);
  const Indices group = read_indices(op.group);
  Indices ids(op.ids.shape, -1);
  for (int64_t row = 0; row < scores.size(0) / op.row_length; ++row) {
    std::vector<int64_t> real;
    for (int64_t t = row * op.row_length; t < (row + 1) * op.row_length; ++t) {
      if (group(t) >= 0) real.push_back(t);
    }
    const auto tokens = static_cast<double>(real.size());
    const double share =
        std::floor(static_cast<double>(op.factor) / 1e6 * tokens / static_cast<double>(scores.size(1)) + 1e-9);
    const auto wanted = static_cast<size_t>(std::min(tokens, std::max(1.0, share)));
    for (int64_t e = 0; e < scores.size(1); ++e) {
      std::vector<int64_t> order = real;
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t a, int64_t b) { return rank(scores(a, e)) > rank(scores(b, e)); });
      for (size_t i = 0; i < wanted; ++i) ids(order[i], e) = e;
    }
  }
  write(op.ids, ids);
}

void compute(const Distillation& op) {
  const Reals scores = read(op.scores);
  const Indices ids = read_indices(op.ids), group = read_indices(op.group);
  Reals loss = op.loss ? read(op.loss) : Reals(Shape{1}), d_logits(op.scores.shape);
  const double weight = static_cast<double>(op.weight) * read(op.inv_tokens)(0);
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    loss(0) -= weight * std::log(std::max(scores(t, ids(t, 0)), 1e-38));
    for (int64_t e = 0; e < scores.size(1); ++e) d_logits(t, e) = weight * (scores(t, e) - (e == ids(t, 0) ? 1 : 0));
  }
  if (op.loss) write(op.loss, loss);
  if (op.d_logits) write(op.d_logits, d_logits);
}

}  // namespace moe::oracle
