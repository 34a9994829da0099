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

/// Whether every row of a stored operand consists of whole 16-byte chunks at aligned addresses.
bool in_chunks(const View& stored) {
  if (stored.dtype != DType::bf16 || reinterpret_cast<uintptr_t>(stored.data) % 16 != 0) return false;
  for (int axis = 0; axis + 1 < stored.rank(); ++axis) {
    if (stored.shape[axis] > 1 && stored.stride[static_cast<size_t>(axis)] % kChunk != 0) return false;
  }
  return stored.size(stored.rank() - 1) % kChunk == 0;
}

void set_result(TileProblem& p, const View& c, bool accumulate) {
  const auto outer = static_cast<size_t>(c.rank() - 2);
  p.c = c.data;
  p.c_step = c.stride[outer];
  p.c_half = c.dtype == DType::bf16;
  p.accumulate = accumulate;
  p.c_expert = c.rank() > 2 ? c.stride[0] : 0;
  p.c_chunked = in_chunks(c);
  const auto address = reinterpret_cast<uintptr_t>(c.data);
  p.c_quads = c.dtype == DType::f32 && address % 16 == 0 && p.c_step % 4 == 0 && p.c_expert % 4 == 0 &&
              c.size(c.rank() - 1) % 4 == 0;
  const size_t pair = 2 * size_of(c.dtype);
  p.c_wide = reinterpret_cast<uintptr_t>(c.data) % pair == 0 && p.c_step % 2 == 0 && p.c_expert % 2 == 0;
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

/// A stored operand, [rows, columns] or one such matrix per expert, for the bulk copy engine: boxes of 64 columns by
/// `box_rows` rows.
hopper::Bulk in_bulk(const View& stored, int box_rows) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
          "looking for cuTensorMapEncodeTiled");
    MOE_CHECK(found == cudaDriverEntryPointSuccess);
    return reinterpret_cast<Encode>(function);
  }();
  const int outer = stored.rank() - 2;
  const int64_t columns = stored.size(outer + 1), rows = stored.size(outer), matrices = outer > 0 ? stored.size(0) : 1;
  // The stride of an axis of one element may be anything; the engine wants multiples of 16 bytes.
  const int64_t row_step = rows > 1 ? stored.stride[static_cast<size_t>(outer)] : columns;
  const int64_t matrix_step = matrices > 1 ? stored.stride[0] : row_step * rows;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows),
                              static_cast<cuuint64_t>(matrices)};
  const cuuint64_t strides[] = {2 * static_cast<cuuint64_t>(row_step), 2 * static_cast<cuuint64_t>(matrix_step)};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(box_rows), 1}, steps[] = {1, 1, 1};
  hopper::Bulk bulk{.map = {}, .present = true};
  const CUresult result =
      encode(&bulk.map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, stored.data, sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    fail("a grouped product: the GPU's copy engine does not take an operand of {} (error {})", stored.shape.text(),
         static_cast<int>(result));
  }
  return bulk;
}

/// `row_tiles`: tiles of kTile rows, over all experts. `a` and `b`: the stored operands of `p`.
template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
void start_hopper(const Context& context, const TileProblem& p, const View& a, const View& b, int64_t row_tiles) {
  const auto kernel = hopper::kernel<grouping, a_reduced_rows, b_reduced_rows>;
  static const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                          static_cast<int>(hopper::kSharedBytes));
  check(allowed, "asking for shared memory");
  const int64_t tile_count = row_tiles * ceil_div(p.n, hopper::kTileColumns);
  hopper::Bulk a_bulk{}, b_bulk{};
  if (p.a.rows == nullptr) a_bulk = in_bulk(a, a_reduced_rows ? hopper::kDepth : hopper::kTileRows);
  if (p.b.rows == nullptr) b_bulk = in_bulk(b, b_reduced_rows ? hopper::kDepth : hopper::kTileColumns);
  launch(context, kernel, blocks(std::min<int64_t>(tile_count, context.multiprocessors)), hopper::kThreads,
         hopper::kSharedBytes, p, a_bulk, b_bulk, static_cast<int>(tile_count));
}

/// `row_tiles`: tiles of kTile rows, over all experts.
template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
void start(const Context& context, const TileProblem& p, const View& a, const View& b, int64_t row_tiles, bool tensor) {
  const dim3 grid = blocks(row_tiles * ceil_div(p.n, kTile));
  if (!tensor) {
    launch(context, simt::kernel<grouping, a_reduced_rows, b_reduced_rows>, grid, simt::kThreads, 0, p);
    return;
  }
  if constexpr (grouping != Grouping::none) {
    if (has_hopper_path(context) && p.k > 0 && p.m > 0 && p.n > 0) {
      return start_hopper<grouping, a_reduced_rows, b_reduced_rows>(context, p, a, b, row_tiles);
    }
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
    op.transpose_b ? start<Grouping::none, true, false>(context, p, op.a, op.b, row_tiles, tensor)
                   : start<Grouping::none, true, true>(context, p, op.a, op.b, row_tiles, tensor);
  } else {
    op.transpose_b ? start<Grouping::none, false, false>(context, p, op.a, op.b, row_tiles, tensor)
                   : start<Grouping::none, false, true>(context, p, op.a, op.b, row_tiles, tensor);
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
  op.transpose_b ? start<Grouping::rows, false, false>(context, p, op.a, op.b, row_tiles, tensor)
                 : start<Grouping::rows, false, true>(context, p, op.a, op.b, row_tiles, tensor);
}

void tile_product(Context& context, const GroupedGemmReduce& op) {
  const bool tensor = takes_tensor_path(op.a, op.b);
  // Hopper's kernel loads gathered rows more slowly: they had better be the narrower operand of its tiles.
  const bool swap = tensor && has_hopper_path(context) && op.b_rows && !op.a_rows;
  const View &a = swap ? op.b : op.a, &b = swap ? op.a : op.b;
  TileProblem p{.a = operand(a, swap ? op.b_rows : op.a_rows),
                .b = operand(b, swap ? op.a_rows : op.b_rows),
                .m = a.size(1),
                .n = b.size(1),
                .k = op.a_rows ? op.a_rows.size(0) : op.a.size(0),
                .offsets = op.offsets.as<const int32_t>()};
  set_result(p, op.c, op.accumulate);
  p.c_transposed = swap;
  start<Grouping::reduction, true, true>(context, p, a, b, op.c.size(0) * ceil_div(p.m, kTile), tensor);
}

}  // namespace moe::cuda
