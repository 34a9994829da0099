#include "backend/cuda/mixed_product.h"

#include "backend/cuda/kernel.cuh"
#include "backend/cuda/tile_product.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kParts = 3;
constexpr size_t kLibraryBytes = size_t{32} << 20;  // of the workspace, left to the products themselves

/// parts[i * plane + row * step + column], i = 0 the largest. What is not finite stays in the first part alone.
__global__ void split_kernel(const float* x, int64_t x_step, __nv_bfloat16* parts, int64_t plane, int64_t step,
                             int64_t rows, int64_t columns) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t row = index / columns, column = index % columns;
  if (row >= rows) return;
  float rest = x[row * x_step + column];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const __nv_bfloat16 part = __float2bfloat16_rn(rest);
    parts[i * plane + row * step + column] = part;
    rest = isfinite(rest) ? rest - __bfloat162float(part) : 0.0f;
  }
}

__global__ void repeat_kernel(const __nv_bfloat16* x, int64_t x_step, __nv_bfloat16* copies, int64_t plane, int64_t step,
                              int64_t rows, int64_t columns) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t row = index / columns, column = index % columns;
  if (row >= rows) return;
  const __nv_bfloat16 value = x[row * x_step + column];
#pragma unroll
  for (int i = 0; i < kParts; ++i) copies[i * plane + row * step + column] = value;
}

/// A matrix three times, one behind the other along its rows or along its columns.
struct Stack {
  View whole;  ///< bf16 [3 rows, columns] or [rows, 3 columns]
  int64_t plane;

  Stack(Carver& carver, const View& matrix, bool along_rows)
      : whole(carver.take<__nv_bfloat16>(kParts * matrix.elements()), DType::bf16,
              along_rows ? Shape{kParts * matrix.size(0), matrix.size(1)}
                         : Shape{matrix.size(0), kParts * matrix.size(1)}),
        plane(along_rows ? matrix.elements() : matrix.size(1)) {}

  View part(int index, const View& matrix) const { return whole.rows(index * matrix.size(0), matrix.size(0)); }
};

void split(Context& context, const View& x, const Stack& stack) {
  launch(context, split_kernel, blocks(ceil_div(x.elements(), kThreads)), kThreads, 0, x.as<const float>(), x.stride[0],
         static_cast<__nv_bfloat16*>(stack.whole.data), stack.plane, stack.whole.stride[0], x.size(0), x.size(1));
}

/// By the library, or by our own kernels (which need no workspace for a Gemm) where it has no algorithm.
void queue(Context& context, const Gemm& product, const Workspace& workspace) {
  if (!context.products.run(product, context.stream, workspace)) tile_product(context, product);
}

void repeat(Context& context, const View& x, const Stack& stack) {
  launch(context, repeat_kernel, blocks(ceil_div(x.elements(), kThreads)), kThreads, 0,
         static_cast<const __nv_bfloat16*>(x.data), x.stride[0], static_cast<__nv_bfloat16*>(stack.whole.data),
         stack.plane, stack.whole.stride[0], x.size(0), x.size(1));
}

}  // namespace

bool mixed_product(Context& context, const Gemm& op) {
  const bool a_is_f32 = op.a.dtype == DType::f32;
  const View &wide = a_is_f32 ? op.a : op.b, &narrow = a_is_f32 ? op.b : op.a;
  if (wide.dtype != DType::f32 || narrow.dtype != DType::bf16 || op.c.elements() == 0 || wide.elements() == 0) {
    return false;
  }
  const bool sum_in_place = op.c.dtype == DType::f32;  // else c would be rounded three times
  const int64_t elements = wide.elements() + (sum_in_place ? 0 : narrow.elements());
  const auto bytes = static_cast<size_t>(kParts * elements) * sizeof(__nv_bfloat16) + 1024;
  if (bytes + kLibraryBytes > context.workspace.bytes) return false;
  Carver carver(context, "a product of f32 and bf16");

  Gemm product = op;
  if (sum_in_place) {
    const Stack parts(carver, wide, true);
    split(context, wide, parts);
    for (int i = kParts - 1; i >= 0; --i) {  // the smallest first
      (a_is_f32 ? product.a : product.b) = parts.part(i, wide);
      queue(context, product, carver.rest());
      product.accumulate = true;
    }
    return true;
  }
  // One product with three times the reduced dimension: [hi | mid | lo] times the other operand three times.
  const Stack a(carver, op.a, op.transpose_a), b(carver, op.b, !op.transpose_b);
  split(context, wide, a_is_f32 ? a : b);
  repeat(context, narrow, a_is_f32 ? b : a);
  product.a = a.whole;
  product.b = b.whole;
  queue(context, product, carver.rest());
  return true;
}

}  // namespace moe::cuda
