#include <algorithm>
#include <cmath>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {

void compute(const Embed& op) {
  const Indices tokens = read_indices(op.tokens);
  const Reals table = read(op.table);
  Reals y(op.y.shape);
  for (int64_t t = 0; t < y.size(0); ++t) {
    for (int64_t d = 0; d < y.size(1); ++d) y(t, d) = table(tokens(t), d);
  }
  write(op.y, y);
}

void compute(const EmbedBackward& op) {
  const Indices tokens = read_indices(op.tokens);
  const Reals dy = read(op.dy);
  Reals d_table = read(op.d_table);
  for (int64_t t = 0; t < dy.size(0); ++t) {
    for (int64_t d = 0; d < dy.size(1); ++d) d_table(tokens(t), d) += dy(t, d);
  }
  write(op.d_table, d_table);
}

void compute(const CrossEntropy& op) {
  Reals logits = read(op.logits);
  const Indices targets = read_indices(op.targets);
  const double gradient_scale = op.gradient_scale ? read(op.gradient_scale)(0) : 0;
  const Reals weights = op.weights ? read(op.weights) : Reals(op.row_loss.shape);
  Reals row_loss(op.row_loss.shape);
  const int64_t vocabulary = logits.size(1);
  for (int64_t t = 0; t < logits.size(0); ++t) {
    const bool ignored = targets(t) < 0;
    double largest = -INFINITY, sum = 0;
    for (int64_t v = 0; v < vocabulary; ++v) largest = std::max(largest, logits(t, v));
    for (int64_t v = 0; v < vocabulary; ++v) sum += std::exp(logits(t, v) - largest);
    const double log_sum = largest + std::log(sum);
    const double weight = op.weights ? weights(t) : 1;
    row_loss(t) = ignored ? 0 : weight * (log_sum - logits(t, targets(t)));
    for (int64_t v = 0; v < vocabulary; ++v) {
      const double onehot = v == targets(t) ? 1 : 0;
      logits(t, v) = ignored ? 0 : gradient_scale * weight * (std::exp(logits(t, v) - log_sum) - onehot);
    }
  }
  if (op.gradient_scale) write(op.d_logits, logits);
  write(op.row_loss, row_loss);
}

}  // namespace moe::oracle
