#include "backend/cuda/adapter_matrix.h"
#include "backend/cuda/kernel.cuh"

namespace moe::cuda {
namespace {

struct SpreadArgs {
  const __nv_bfloat16* from;
  __nv_bfloat16* to;
  int64_t from_row, from_expert;  ///< elements from one to the next
  int rows, chunks;               ///< of a matrix; of a slice's columns
  int first_end, second_end;      ///< of the rows of the first two slices
  int slices;
};

/// A thread writes a chunk. Experts are along y.
__global__ void spread_kernel(SpreadArgs s) {
  const int64_t place = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int width = s.chunks * s.slices, row = static_cast<int>(place / width), chunk = static_cast<int>(place % width);
  if (row >= s.rows) return;
  const int slice = row < s.first_end ? 0 : row < s.second_end ? 1 : 2;
  const auto expert = static_cast<int64_t>(blockIdx.y);
  uint4 bits{};
  if (chunk / s.chunks == slice) {
    bits =
        *reinterpret_cast<const uint4*>(s.from + expert * s.from_expert + row * s.from_row + chunk % s.chunks * kChunk);
  }
  *reinterpret_cast<uint4*>(s.to + ((expert * s.rows + row) * width + chunk) * kChunk) = bits;
}

}  // namespace

View as_one_matrix(const Context& context, Carver& carver, const AdaptedProduct& op, int64_t first, int64_t count) {
  const int64_t slices = op.slice_count();
  const View b = op.b.rows(first, count);
  if (!op.product.transpose_b || slices == 1) return b;
  const int64_t rows = b.size(1), rank = b.size(2);
  const View whole(carver.take<__nv_bfloat16>(count * rows * slices * rank), DType::bf16, {count, rows, slices * rank});
  const SpreadArgs s{.from = static_cast<const __nv_bfloat16*>(b.data),
                     .to = static_cast<__nv_bfloat16*>(whole.data),
                     .from_row = b.stride[1],
                     .from_expert = b.stride[0],
                     .rows = static_cast<int>(rows),
                     .chunks = static_cast<int>(rank / kChunk),
                     .first_end = static_cast<int>(op.slices[0]),
                     .second_end = static_cast<int>(op.slices[0] + op.slices[1]),
                     .slices = static_cast<int>(slices)};
  constexpr unsigned kThreads = 256;
  dim3 grid = threads_for(rows * s.chunks * slices, kThreads);
  grid.y = static_cast<unsigned>(count);
  launch(context, spread_kernel, grid, kThreads, 0, s);
  return whole;
}

}  // namespace moe::cuda
