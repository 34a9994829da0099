#include "backend/cuda/kernel.cuh"
#include "backend/cuda/mixed_product.h"
#include "backend/cuda/tile_product.h"

namespace moe::cuda {
namespace {

constexpr int kParts = 3;
constexpr size_t kLibraryBytes = size_t{32} << 20;  // bytes of the workspace that are left to the products themselves
// limit for the rows or columns of c if three times as many are computed separately
constexpr int64_t kMostStacked = 512;

/// A count of elements that gives rows of whole 16-byte chunks of bf16. The library's kernels for other rows are
/// several times slower.
int64_t in_chunks(int64_t count) { return ceil_div(count, kChunk) * kChunk; }

/// The arguments for a stack of three copies. Rows and columns from the matrix's own size to the padded size are zeros.
struct StackArgs {
  __nv_bfloat16* parts;
  int64_t plane, step;  ///< elements from part to part, and from row to row
  int64_t rows, columns, padded_rows, padded_columns;
};

__device__ bool stack_place(const StackArgs& s, int64_t& row, int64_t& column) {
  row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  column = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  return row < s.padded_rows && column < s.padded_columns;
}

/// The first part is the largest. A number that is not finite is only in the first part.
__global__ void split_kernel(const float* x, int64_t x_step, StackArgs s) {
  int64_t row, column;
  if (!stack_place(s, row, column)) return;
  float rest = row < s.rows && column < s.columns ? x[row * x_step + column] : 0.0f;
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const __nv_bfloat16 part = __float2bfloat16_rn(rest);
    s.parts[i * s.plane + row * s.step + column] = part;
    rest = isfinite(rest) ? rest - __bfloat162float(part) : 0.0f;
  }
}

__global__ void repeat_kernel(const __nv_bfloat16* x, int64_t x_step, StackArgs s) {
  int64_t row, column;
  if (!stack_place(s, row, column)) return;
  const __nv_bfloat16 value = row < s.rows && column < s.columns ? x[row * x_step + column] : __nv_bfloat16();
#pragma unroll
  for (int i = 0; i < kParts; ++i) s.parts[i * s.plane + row * s.step + column] = value;
}

/// c = (accumulate: c) + the sums of the parts, the smallest first. `apart`: elements from one part's sums to the next.
__global__ void add_parts_kernel(const float* sums, int64_t step, int64_t apart, float* c, int64_t c_step,
                                 bool accumulate, int64_t rows, int64_t columns) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (row >= rows || column >= columns) return;
  float sum = 0;
#pragma unroll
  for (int i = kParts - 1; i >= 0; --i) sum += sums[i * apart + row * step + column];
  float* const to = c + row * c_step + column;
  *to = sum + (accumulate ? *to : 0.0f);
}

struct Cover {
  dim3 grid, threads{64, 4};
  Cover(int64_t rows, int64_t columns) : grid(blocks(ceil_div(rows, 4))) {
    grid.y = static_cast<unsigned>(ceil_div(columns, 64));
  }
};

/// A matrix three times, one after the other along its rows or along its columns, each padded along that axis.
struct Stack {
  StackArgs args;
  View whole;  ///< bf16 [3 padded rows, columns] or [rows, 3 padded columns]

  static int64_t elements(const View& matrix, bool along_rows) {
    return along_rows ? kParts * in_chunks(matrix.size(0)) * in_chunks(matrix.size(1))
                      : matrix.size(0) * kParts * in_chunks(matrix.size(1));
  }
  Stack(Carver& carver, const View& matrix, bool along_rows) {
    const int64_t rows = matrix.size(0), columns = matrix.size(1), wide = in_chunks(columns);
    auto* const data = carver.take<__nv_bfloat16>(elements(matrix, along_rows));
    args = {.parts = data,
            .plane = along_rows ? in_chunks(rows) * wide : wide,
            .step = along_rows ? wide : kParts * wide,
            .rows = rows,
            .columns = columns,
            .padded_rows = along_rows ? in_chunks(rows) : rows,
            .padded_columns = wide};
    whole = View(data, DType::bf16, along_rows ? Shape{kParts * in_chunks(rows), wide} : Shape{rows, kParts * wide});
    if (along_rows) whole = whole.columns(0, columns);
  }
};

void split(Context& context, const View& x, const Stack& stack) {
  const Cover cover(stack.args.padded_rows, stack.args.padded_columns);
  launch(context, split_kernel, cover.grid, cover.threads, 0, x.as<const float>(), x.stride[0], stack.args);
}

void repeat(Context& context, const View& x, const Stack& stack) {
  const Cover cover(stack.args.padded_rows, stack.args.padded_columns);
  launch(context, repeat_kernel, cover.grid, cover.threads, 0, static_cast<const __nv_bfloat16*>(x.data), x.stride[0],
         stack.args);
}

/// Uses the library, or our own kernels (which need no workspace for a Gemm) if the library has no algorithm.
void queue(Context& context, const Gemm& product, const Workspace& workspace) {
  if (!context.products.run(product, context.stream, workspace)) tile_product(context, product);
}

bool fits(const Context& context, int64_t stacked, int64_t sums = 0) {
  const auto bytes = static_cast<size_t>(stacked) * sizeof(__nv_bfloat16) + static_cast<size_t>(sums) * sizeof(float);
  return bytes + 1024 + kLibraryBytes <= context.workspace.bytes;
}

/// For c in bf16, which must be rounded only once: one product with three times the reduced dimension, [hi | mid | lo]
/// times the other operand three times.
bool with_longer_sums(Context& context, const Gemm& op, bool a_is_f32) {
  const bool a_rows = op.transpose_a, b_rows = !op.transpose_b;  // along which axis of each the reduced dimension runs
  if (!fits(context, Stack::elements(op.a, a_rows) + Stack::elements(op.b, b_rows))) return false;
  Carver carver(context, "a product of f32 and bf16");
  const Stack a(carver, op.a, a_rows), b(carver, op.b, b_rows);
  split(context, a_is_f32 ? op.a : op.b, a_is_f32 ? a : b);
  repeat(context, a_is_f32 ? op.b : op.a, a_is_f32 ? b : a);
  Gemm product = op;
  product.a = a.whole;
  product.b = b.whole;
  queue(context, product, carver.rest());
  return true;
}

/// For c in f32 with few rows (or columns, if b is f32): one product for the sums of all parts, which are then added.
bool with_more_sums(Context& context, const Gemm& op, bool a_is_f32) {
  const View& wide = a_is_f32 ? op.a : op.b;
  const bool along_rows = a_is_f32 ? !op.transpose_a : op.transpose_b;
  const int64_t rows = op.c.size(0), columns = op.c.size(1);
  const int64_t apart = in_chunks(a_is_f32 ? rows : columns), stacked = kParts * apart;
  const int64_t all_columns = a_is_f32 ? in_chunks(columns) : stacked, all_rows = a_is_f32 ? stacked : rows;
  if (!fits(context, Stack::elements(wide, along_rows), all_rows * all_columns)) return false;
  Carver carver(context, "a product of f32 and bf16");
  const Stack parts(carver, wide, along_rows);
  split(context, wide, parts);
  View sums(carver.take<float>(all_rows * all_columns), DType::f32, {all_rows, all_columns});
  if (a_is_f32) sums = sums.columns(0, columns);
  Gemm product = op;
  (a_is_f32 ? product.a : product.b) = parts.whole;
  product.c = sums;
  product.accumulate = false;
  queue(context, product, carver.rest());
  const Cover cover(rows, columns);
  launch(context, add_parts_kernel, cover.grid, cover.threads, 0, sums.as<const float>(), all_columns,
         a_is_f32 ? apart * all_columns : apart, op.c.as<float>(), op.c.stride[0], op.accumulate, rows, columns);
  return true;
}

/// For c in f32: a product for each part, added to c.
bool part_by_part(Context& context, const Gemm& op, bool a_is_f32) {
  const View& wide = a_is_f32 ? op.a : op.b;
  if (!fits(context, Stack::elements(wide, true))) return false;
  Carver carver(context, "a product of f32 and bf16");
  const Stack parts(carver, wide, true);
  split(context, wide, parts);
  Gemm product = op;
  for (int i = kParts - 1; i >= 0; --i) {  // the smallest first
    (a_is_f32 ? product.a : product.b) = parts.whole.rows(i * in_chunks(wide.size(0)), wide.size(0));
    queue(context, product, carver.rest());
    product.accumulate = true;
  }
  return true;
}

}  // namespace

bool mixed_product(Context& context, const Gemm& op) {
  const bool a_is_f32 = op.a.dtype == DType::f32;
  const View &wide = a_is_f32 ? op.a : op.b, &narrow = a_is_f32 ? op.b : op.a;
  if (wide.dtype != DType::f32 || narrow.dtype != DType::bf16 || op.c.elements() == 0 || wide.elements() == 0) {
    return false;
  }
  if (op.c.dtype != DType::f32) {
    if (with_longer_sums(context, op, a_is_f32)) return true;
    const int64_t rows = op.c.size(0), half = rows / 2;
    if (op.transpose_a || half == 0) return false;
    Gemm first = op, second = op;  // if it does not fit the workspace at once
    first.a = op.a.rows(0, half), first.c = op.c.rows(0, half);
    second.a = op.a.rows(half, rows - half), second.c = op.c.rows(half, rows - half);
    return mixed_product(context, first) && mixed_product(context, second);
  }
  const int64_t outer = op.c.size(a_is_f32 ? 0 : 1);
  if (outer <= kMostStacked && with_more_sums(context, op, a_is_f32)) return true;
  if (part_by_part(context, op, a_is_f32)) return true;
  const int64_t depth = op.a.size(0), half = depth / 2;
  if (!op.transpose_a || op.transpose_b || half == 0) return false;
  Gemm first = op, second = op;
  first.a = op.a.rows(0, half), first.b = op.b.rows(0, half);
  second.a = op.a.rows(half, depth - half), second.b = op.b.rows(half, depth - half);
  second.accumulate = true;
  return mixed_product(context, first) && mixed_product(context, second);
}

}  // namespace moe::cuda
