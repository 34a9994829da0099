#include "backend/cpu/products.h"
#include "backend/cpu/swiglu.h"
#include "ops/expert_rows.h"
#include "ops/numbers.h"

namespace moe::cpu {
namespace {

/// The smallest side of a tile. With smaller ones, packing would cost more than the division saves.
constexpr int64_t kLeastSide = 128;
/// The smallest number of tasks per worker, if tiles stay large enough. It makes the workers finish together.
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

/// Numbers the tasks of all experts in one row: calls task(e, i, worker) for every i < tasks_of(e).
template <class TasksOf, class Task>
void run_experts(Context& context, int64_t experts, TasksOf tasks_of, Task task) {
  int64_t tasks = 0;
  for (int64_t e = 0; e < experts; ++e) tasks += tasks_of(e);
  context.pool.parallel_for(tasks, [&](int64_t index, int worker) {
    int64_t e = 0;
    for (; index >= tasks_of(e); ++e) index -= tasks_of(e);
    task(e, index, worker);
  });
}

/// The products of all experts. The product of expert e is divided into grid_of(e).
template <class GridOf, class ProductOf>
void run_products(Context& context, int64_t experts, GridOf grid_of, ProductOf product_of) {
  const auto tiles_of = [&](int64_t e) { return grid_of(e).parts(); };
  run_experts(context, experts, tiles_of, [&](int64_t e, int64_t tile, int worker) {
    multiply(context, tile_of(product_of(e), grid_of(e), tile), worker);
  });
}

/// The number of tiles for an expert that has `rows` of `total` rows.
int64_t parts_of(const Context& context, int64_t rows, int64_t total) {
  const int64_t tasks = kTasksPerWorker * context.pool.size();
  return total == 0 ? 1 : (rows * tasks + total - 1) / total;
}

/// Rows [begin, end) of a product, all of them expert e's.
Multiplication product_of_rows(const GroupedGemm& op, int64_t e, int64_t begin, int64_t end) {
  const Storage c_type = storage_of(op.c.dtype);
  return {.a = moved(factor(op.a, op.a_rows, false), begin, 0),
          .b = factor(op.b.at(e), {}, !op.transpose_b),
          .c = address(op.c.data, c_type, begin * op.c.stride[0]),
          .c_type = c_type,
          .c_step = op.c.stride[0],
          .m = end - begin,
          .n = op.c.size(1),
          .k = op.a.size(1),
          .accumulate = op.accumulate};
}

/// Takes some rows of an expert through all three operations at a time, so that the rows between them stay in the
/// cache. If rows alone give too few tasks, it runs the operations one by one, which are divided along columns too.
template <class Activation>
void run_rows(Context& context, const ExpertRows<Activation>& op) {
  const int64_t experts = op.first.b.size(0);
  const int32_t* offsets = op.first.offsets.template as<int32_t>();
  const auto parts = [&](int64_t e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    const int64_t most = (rows + kLeastSide - 1) / kLeastSide;
    return std::min(most, parts_of(context, rows, offsets[experts]));
  };
  int64_t tasks = 0;
  for (int64_t e = 0; e < experts; ++e) tasks += parts(e);
  if (tasks < kTasksPerWorker * context.pool.size()) {
    execute(context, op.first);
    execute(context, op.activation);
    execute(context, op.last);
    return;
  }
  run_experts(context, experts, parts, [&](int64_t e, int64_t part, int worker) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    const int64_t begin = offsets[e] + rows * part / parts(e), end = offsets[e] + rows * (part + 1) / parts(e);
    multiply(context, product_of_rows(op.first, e, begin, end), worker);
    swiglu_rows(context, op.activation, begin, end);
    multiply(context, product_of_rows(op.last, e, begin, end), worker);
  });
}

}  // namespace

template <>
void execute(Context& context, const GroupedGemm& op) {
  const int64_t experts = op.b.size(0);
  const int32_t* offsets = op.offsets.as<int32_t>();
  const auto grid_of = [&](int64_t e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    return rows == 0 ? Grid{0, 0} : cut(rows, op.c.size(1), parts_of(context, rows, offsets[experts]));
  };
  run_products(context, experts, grid_of,
               [&](int64_t e) { return product_of_rows(op, e, offsets[e], offsets[e + 1]); });
}

template <>
void execute(Context& context, const GroupedGemmReduce& op) {
  const int64_t experts = op.c.size(0);
  const int32_t* offsets = op.offsets.as<int32_t>();
  const Multiplication all{.a = factor(op.a, op.a_rows, true),
                           .b = factor(op.b, op.b_rows, true),
                           .c = op.c.data,
                           .c_type = storage_of(op.c.dtype),
                           .c_step = op.c.stride[1],
                           .m = op.c.size(1),
                           .n = op.c.size(2),
                           .k = offsets[experts],
                           .accumulate = op.accumulate};
  const auto grid_of = [&](int64_t e) {
    return cut(all.m, all.n, parts_of(context, offsets[e + 1] - offsets[e], all.k));
  };
  run_products(context, experts, grid_of, [&](int64_t e) {
    Multiplication product = all;
    product.a = moved(all.a, offsets[e], 0);
    product.b = moved(all.b, offsets[e], 0);
    product.c = op.c.at(e).data;
    product.k = offsets[e + 1] - offsets[e];
    return product;
  });
  if (op.squares) execute(context, SumSquares{.x = op.c, .sum = op.squares});
}

template <>
void execute(Context& context, const ExpertRows<SwiGlu>& op) {
  run_rows(context, op);
}

template <>
void execute(Context& context, const ExpertRows<SwiGluBackward>& op) {
  run_rows(context, op);
}

}  // namespace moe::cpu
