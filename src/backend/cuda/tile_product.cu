#include "backend/cuda/tile_product.h"

#include "backend/cuda/hopper_product.cuh"
#include "backend/cuda/mma_product.cuh"
#include "backend/cuda/products.h"
#include "backend/cuda/simt_product.cuh"

namespace moe::cuda {
namespace {

static_assert(mma::kTile == simt::kTile && mma::kTile == hopper::kTileRows, "one table of tiles serves all");
constexpr int64_t kTile = mma::kTile;

Operand operand(const View& stored, const View& rows) {
  // Of [E, rows, columns] the last two axes.
  const auto outer = static_cast<size_t>(stored.rank() - 2);
  return {stored.data, stored.stride[outer], stored.dtype == DType::bf16, rows ? rows.as<const int32_t>() : nullptr};
}

void set_result(TileProblem& p, const View& c, bool accumulate) {
  const auto outer = static_cast<size_t>(c.rank() - 2);
  p.c = c.data;
  p.c_step = c.stride[outer];
  p.c_half = c.dtype == DType::bf16;
  p.accumulate = accumulate;
  p.c_expert = c.rank() > 2 ? c.stride[0] : 0;
  const size_t pair = 2 * size_of(c.dtype);
  p.c_wide = reinterpret_cast<uintptr_t>(c.data) % pair == 0 && p.c_step % 2 == 0 && p.c_expert % 2 == 0;
}

/// Whether every row of a stored operand consists of whole 16-byte chunks at aligned addresses.
bool in_chunks(const View& stored) {
  if (stored.dtype != DType::bf16 || reinterpret_cast<uintptr_t>(stored.data) % 16 != 0) return false;
  for (int axis = 0; axis + 1 < stored.rank(); ++axis) {
    if (stored.shape[axis] > 1 && stored.stride[static_cast<size_t>(axis)] % kChunk != 0) return false;
  }
  return stored.size(stored.rank() - 1) % kChunk == 0;
}

bool takes_tensor_path(const View& a, const View& b) {
  return product_path() != CudaPath::simt && in_chunks(a) && in_chunks(b);
}

/// Hopper's kernels were compiled, this GPU has their instructions, and nobody asked for others.
bool has_hopper_path(const Context& context) {
#ifdef MOE_CUDA_HOPPER
  return context.compute_capability == 90 && product_path() != CudaPath::tensor;
#else
  (void)context;
  return false;
#endif
}

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
void start_hopper(const Context& context, const TileProblem& p, int64_t row_tiles) {
  const auto kernel = hopper::kernel<grouping, a_reduced_rows, b_reduced_rows>;
  static const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                          static_cast<int>(hopper::kSharedBytes));
  check(allowed, "asking for shared memory");
  const int64_t tile_count = row_tiles * ceil_div(p.n, hopper::kTileColumns);
  launch(context, kernel, blocks(std::min<int64_t>(tile_count, context.multiprocessors)), hopper::kThreads,
         hopper::kSharedBytes, p, static_cast<int>(tile_count));
}

/// `row_tiles`: tiles of kTile rows, over all experts.
template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
void start(const Context& context, const TileProblem& p, int64_t row_tiles, bool tensor) {
  const dim3 grid = blocks(row_tiles * ceil_div(p.n, kTile));
  if (!tensor) {
    launch(context, simt::kernel<grouping, a_reduced_rows, b_reduced_rows>, grid, simt::kThreads, 0, p);
    return;
  }
  if constexpr (grouping != Grouping::none) {
    if (has_hopper_path(context)) return start_hopper<grouping, a_reduced_rows, b_reduced_rows>(context, p, row_tiles);
  }
  const auto kernel = mma::kernel<grouping, a_reduced_rows, b_reduced_rows>;
  static const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                          static_cast<int>(mma::kSharedBytes));
  check(allowed, "asking for shared memory");
  launch(context, kernel, grid, mma::kThreads, mma::kSharedBytes, p);
}

/// One block of kWarp threads: the tiles of each expert's rows in order, then expert -1.
__global__ void tiles_kernel(const int* offsets, int experts, int2* tiles, int tile_count) {
  __shared__ int first[kWarp + 1];
  int done = 0;
  for (int begin = 0; begin < experts; begin += kWarp) {
    const int e = begin + static_cast<int>(threadIdx.x);
    const int rows = e < experts ? offsets[e + 1] - offsets[e] : 0;
    const int mine = (rows + static_cast<int>(kTile) - 1) / static_cast<int>(kTile);
    int sum = mine;  // inclusive, over the lanes
    for (int lane = 1; lane < kWarp; lane *= 2) {
      const int below = __shfl_up_sync(0xffffffffu, sum, lane);
      if (static_cast<int>(threadIdx.x) >= lane) sum += below;
    }
    __syncwarp();
    first[threadIdx.x] = done + sum - mine;
    __syncwarp();
    for (int lane = 0; lane < kWarp && begin + lane < experts; ++lane) {
      const int count = __shfl_sync(0xffffffffu, mine, lane);
      for (int i = static_cast<int>(threadIdx.x); i < count; i += kWarp) {
        tiles[first[lane] + i] = make_int2(begin + lane, offsets[begin + lane] + i * static_cast<int>(kTile));
      }
    }
    done += __shfl_sync(0xffffffffu, sum, kWarp - 1);
  }
  for (int i = done + static_cast<int>(threadIdx.x); i < tile_count; i += kWarp) tiles[i] = make_int2(-1, 0);
}

}  // namespace

void tile_product(Context& context, const Gemm& op) {
  TileProblem p{.a = operand(op.a, {}),
                .b = operand(op.b, {}),
                .m = op.c.size(0),
                .n = op.c.size(1),
                .k = op.a.size(op.transpose_a ? 0 : 1)};
  set_result(p, op.c, op.accumulate);
  const int64_t row_tiles = ceil_div(p.m, kTile);
  const bool tensor = takes_tensor_path(op.a, op.b);
  if (op.transpose_a) {
    op.transpose_b ? start<Grouping::none, true, false>(context, p, row_tiles, tensor)
                   : start<Grouping::none, true, true>(context, p, row_tiles, tensor);
  } else {
    op.transpose_b ? start<Grouping::none, false, false>(context, p, row_tiles, tensor)
                   : start<Grouping::none, false, true>(context, p, row_tiles, tensor);
  }
}

void tile_product(Context& context, const GroupedGemm& op) {
  const int64_t rows = op.c.size(0);
  const int experts = static_cast<int>(op.offsets.size(0) - 1);
  const int64_t row_tiles = ceil_div(rows, kTile) + experts;  // at most
  Carver carver(context, GroupedGemm::name);
  auto* const tiles = carver.take<int2>(row_tiles);
  TileProblem p{.a = operand(op.a, op.a_rows),
                .b = operand(op.b, {}),
                .m = rows,
                .n = op.c.size(1),
                .k = op.a.size(1),
                .offsets = op.offsets.as<const int32_t>(),
                .tiles = tiles,
                .b_expert = op.b.stride[0]};
  set_result(p, op.c, false);
  if (rows == 0 || p.n == 0) return;
  launch(context, tiles_kernel, dim3(1), kWarp, 0, p.offsets, experts, tiles, static_cast<int>(row_tiles));
  const bool tensor = takes_tensor_path(op.a, op.b);
  op.transpose_b ? start<Grouping::rows, false, false>(context, p, row_tiles, tensor)
                 : start<Grouping::rows, false, true>(context, p, row_tiles, tensor);
}

void tile_product(Context& context, const GroupedGemmReduce& op) {
  TileProblem p{.a = operand(op.a, op.a_rows),
                .b = operand(op.b, op.b_rows),
                .m = op.c.size(1),
                .n = op.c.size(2),
                .k = op.a_rows ? op.a_rows.size(0) : op.a.size(0),
                .offsets = op.offsets.as<const int32_t>()};
  set_result(p, op.c, op.accumulate);
  start<Grouping::reduction, true, true>(context, p, op.c.size(0) * ceil_div(p.m, kTile),
                                         takes_tensor_path(op.a, op.b));
}

}  // namespace moe::cuda
