#include "backend/cpu/products.h"
#include "ops/dense.h"

namespace moe::cpu {
namespace {

/// Tiles are cut no smaller than this, or packing would cost more than it spreads.
constexpr int64_t kLeastSide = 128;
/// Tasks for each worker that the work is cut into at least, where tiles stay large enough: what evens out the ends.
constexpr int64_t kTasksPerWorker = 8;

/// Halves the longer side until there are `parts` tiles.
Grid cut(int64_t m, int64_t n, int64_t parts) {
  Grid grid{1, 1};
  while (grid.parts() < parts) {
    const int64_t rows = m / grid.m_parts, columns = n / grid.n_parts;
    if (std::max(rows, columns) < 2 * kLeastSide) break;
    (rows >= columns ? grid.m_parts : grid.n_parts) *= 2;
  }
  return grid;
}

/// The products of all experts as one row of tiles: expert e's number is grid(e).parts().
template <class GridOf, class ProductOf>
void run_experts(Context& context, int64_t experts, GridOf grid_of, ProductOf product_of) {
  int64_t tiles = 0;
  for (int64_t e = 0; e < experts; ++e) tiles += grid_of(e).parts();
  context.pool.parallel_for(tiles, [&](int64_t index, int worker) {
    int64_t e = 0;
    for (; index >= grid_of(e).parts(); ++e) index -= grid_of(e).parts();
    context.kernels.matrix.product(tile_of(product_of(e), grid_of(e), index),
                                   static_cast<float*>(context.scratch.of(worker)));
  });
}

/// Tiles wanted of an expert that has `rows` of `total` rows.
int64_t parts_of(const Context& context, int64_t rows, int64_t total) {
  const int64_t tasks = kTasksPerWorker * context.pool.size();
  return total == 0 ? 1 : (rows * tasks + total - 1) / total;
}

}  // namespace

template <>
void execute(Context& context, const GroupedGemm& op) {
  const int64_t experts = op.b.size(0), n = op.c.size(1);
  const int32_t* offsets = op.offsets.as<int32_t>();
  const Product all{.a = operand(op.a, op.a_rows, false),
                    .b = {elements(op.b), op.b.stride[1], nullptr, !op.transpose_b},
                    .c = op.c.data,
                    .c_is_bf16 = op.c.dtype == DType::bf16,
                    .c_step = op.c.stride[0],
                    .m = offsets[experts],
                    .n = n,
                    .k = op.a.size(1),
                    .accumulate = false};
  const auto grid_of = [&](int64_t e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    return rows == 0 ? Grid{0, 0} : cut(rows, n, parts_of(context, rows, all.m));
  };
  run_experts(context, experts, grid_of, [&](int64_t e) {
    Product product = all;
    product.a = moved(all.a, offsets[e], 0);
    product.b.elements = elements(op.b.at(e));
    product.c = address(all.c, all.c_is_bf16, offsets[e] * all.c_step);
    product.m = offsets[e + 1] - offsets[e];
    return product;
  });
}

template <>
void execute(Context& context, const GroupedGemmReduce& op) {
  const int64_t experts = op.c.size(0);
  const int32_t* offsets = op.offsets.as<int32_t>();
  const Product all{.a = operand(op.a, op.a_rows, true),
                    .b = operand(op.b, op.b_rows, true),
                    .c = op.c.data,
                    .c_is_bf16 = op.c.dtype == DType::bf16,
                    .c_step = op.c.stride[1],
                    .m = op.c.size(1),
                    .n = op.c.size(2),
                    .k = offsets[experts],
                    .accumulate = op.accumulate};
  const auto grid_of = [&](int64_t e) {
    return cut(all.m, all.n, parts_of(context, offsets[e + 1] - offsets[e], all.k));
  };
  run_experts(context, experts, grid_of, [&](int64_t e) {
    Product product = all;
    product.a = moved(all.a, offsets[e], 0);
    product.b = moved(all.b, offsets[e], 0);
    product.c = op.c.at(e).data;
    product.k = offsets[e + 1] - offsets[e];
    return product;
  });
}

}  // namespace moe::cpu
