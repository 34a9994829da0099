#include "backend/cpu/products.h"
#include "ops/dense.h"

namespace moe::cpu {
namespace {

// About the number of cycles that the kernel needs for one step along K: for a tile of m x n, and for packing its
// operands.
double cycles(int64_t m, int64_t n) {
  return static_cast<double>(m) * static_cast<double>(n) / 16 + static_cast<double>(m + n);
}
constexpr double kCyclesPerTask = 3000;
constexpr int64_t kLeastRows = 48;
constexpr int64_t kLeastColumns = 32;

/// The division with the shortest expected time for `workers` that take tiles as they become free.
Grid choose_grid(int64_t m, int64_t n, int64_t k, int workers) {
  Grid best{1, 1};
  double best_time = -1;
  const int64_t most = int64_t{8} * workers;
  const int64_t most_m = std::clamp<int64_t>(m / kLeastRows, 1, most),
                most_n = std::clamp<int64_t>(n / kLeastColumns, 1, most);
  for (int64_t m_parts = 1; m_parts <= most_m; m_parts += 1 + m_parts / 4) {
    for (int64_t n_parts = 1; n_parts <= most_n; n_parts += 1 + n_parts / 4) {
      const Grid grid{m_parts, n_parts};
      const double waves = static_cast<double>((grid.parts() + workers - 1) / workers);
      const double one = cycles((m + m_parts - 1) / m_parts, (n + n_parts - 1) / n_parts) * static_cast<double>(k);
      const double time = waves * (one + kCyclesPerTask) + (grid.parts() > 1 ? kCyclesPerTask : 0);
      if (best_time < 0 || time < best_time) best = grid, best_time = time;
    }
  }
  return best;
}

}  // namespace

template <>
void execute(Context& context, const Gemm& op) {
  const Multiplication product{.a = factor(op.a, {}, op.transpose_a),
                               .b = factor(op.b, {}, !op.transpose_b),
                               .c = op.c.data,
                               .c_type = storage_of(op.c.dtype),
                               .c_step = op.c.stride[0],
                               .m = op.c.size(0),
                               .n = op.c.size(1),
                               .k = op.a.size(op.transpose_a ? 0 : 1),
                               .accumulate = op.accumulate};
  const Grid grid = choose_grid(product.m, product.n, product.k, context.pool.size());
  context.pool.parallel_for(
      grid.parts(), [&](int64_t index, int worker) { multiply(context, tile_of(product, grid, index), worker); });
}

}  // namespace moe::cpu
