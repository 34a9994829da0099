#include "backend/cuda/adapter_matrix.h"
#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/hopper_launch.h"
#include "backend/cuda/mma_product.cuh"
#include "backend/cuda/simt_product.cuh"
#include "backend/cuda/slow_path.h"
#include "backend/cuda/sums.h"
#include "backend/cuda/tile_product.h"
#include "backend/cuda/widened_product.h"
#include "ops/adapted_product.h"
#include "ops/numbers.h"

namespace moe::cuda {
namespace {

static_assert(mma::kTile == simt::kTile && mma::kTile == hopper::kTileRows, "one table of tiles serves all");
constexpr int64_t kTile = mma::kTile;

Operand operand(const View& stored, const View& rows) {
  // Of [E, rows, columns] the last two axes.
  const auto outer = static_cast<size_t>(stored.rank() - 2);
  return {stored.data, stored.stride[outer], stored.dtype == DType::bf16, rows ? rows.as<const int32_t>() : nullptr,
          stored.dtype};
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
  p.c_bf16 = is_bf16(c);
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

/// Warns where a grouped product of bf16 cannot take the tensor cores, or not Hopper's way on a Hopper GPU.
template <class Op>
void note_path(const Context& context, const Op& op, bool tensor) {
  if (product_path() != CudaPath::automatic || op.a.dtype != DType::bf16 || op.b.dtype != DType::bf16) return;
  if (flops(op) < kWorthAWarning) return;
  if (!tensor) {
    note_slow_path(Op::name, "rows that are no whole 16-byte chunks (8 numbers) leave it without tensor cores");
  }
#ifndef MOE_CUDA_HOPPER
  if (tensor && context.compute_capability == 90) {
    note_slow_path(Op::name, "this program was built without code for 90a, and uses the tensor cores in the older way");
  }
#else
  (void)context;
#endif
}

/// Hopper's kernels were compiled, this GPU has their instructions, and nobody asked for others.
bool has_hopper_path(const Context& context) {
#ifdef MOE_CUDA_HOPPER
  return context.compute_capability == 90 && may_use_hopper();
#else
  (void)context;
  return false;
#endif
}

/// A product whose b is of a type that no fast kernel reads.
template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
void start_other(const Context& context, const char* operation, const TileProblem& p, int64_t row_tiles) {
  note_slow_path(operation, "weights of its type are read one by one and multiplied without tensor cores");
  launch(context, simt::kernel<grouping, a_reduced_rows, b_reduced_rows, true>,
         blocks(row_tiles * ceil_div(p.n, kTile)), simt::kThreads, 0, p);
}

/// `row_tiles`: tiles of kTile rows, over all experts.
template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
void start(const Context& context, const TileProblem& p, int64_t row_tiles, bool tensor) {
  const dim3 grid = blocks(row_tiles * ceil_div(p.n, kTile));
  if (!tensor) {
    launch(context, simt::kernel<grouping, a_reduced_rows, b_reduced_rows, false>, grid, simt::kThreads, 0, p);
    return;
  }
  const auto kernel = mma::kernel<grouping, a_reduced_rows, b_reduced_rows>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(mma::kSharedBytes)),
        "asking for shared memory");
  launch(context, kernel, grid, mma::kThreads, mma::kSharedBytes, p);
}

/// One block of whole warps: the tiles of `height` rows of each expert in order, then expert -1. Every warp finds where
/// each expert's tiles begin, and writes those of some.
__global__ void tiles_kernel(const int* offsets, int experts, int height, int4* tiles, int tile_count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  let_next_start();
  wait_for_previous();
  int done = 0;
  for (int begin = 0; begin < experts; begin += kWarp) {
    const int e = begin + lane;
    const int first_row = e < experts ? offsets[e] : 0, end_row = e < experts ? offsets[e + 1] : 0;
    const int mine = (end_row - first_row + height - 1) / height;
    int sum = mine;  // inclusive, over the lanes
    for (int apart = 1; apart < kWarp; apart *= 2) {
      const int below = __shfl_up_sync(0xffffffffu, sum, apart);
      if (lane >= apart) sum += below;
    }
    for (int other = warp; other < kWarp && begin + other < experts; other += warps) {
      const int at = done + __shfl_sync(0xffffffffu, sum - mine, other), count = __shfl_sync(0xffffffffu, mine, other);
      const int row = __shfl_sync(0xffffffffu, first_row, other), end = __shfl_sync(0xffffffffu, end_row, other);
      for (int i = lane; i < count; i += kWarp) tiles[at + i] = make_int4(begin + other, row + i * height, end, 0);
    }
    done += __shfl_sync(0xffffffffu, sum, kWarp - 1);
  }
  for (int i = done + static_cast<int>(threadIdx.x); i < tile_count; i += static_cast<int>(blockDim.x)) {
    tiles[i] = make_int4(-1, 0, 0, 0);
  }
}

/// One block: the experts in order of their rows, most first.
__global__ void order_kernel(const int* offsets, int experts, int* order) {
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += static_cast<int>(blockDim.x)) {
    const int mine = offsets[e + 1] - offsets[e];
    int before = 0;
    for (int other = 0; other < experts; ++other) {
      const int rows = offsets[other + 1] - offsets[other];
      before += rows > mine || (rows == mine && other < e) ? 1 : 0;
    }
    order[before] = e;
  }
}

TileProblem problem_by_rows(const GroupedGemm& op) {
  TileProblem p{};
  p.a = operand(op.a, op.a_rows);
  p.b = operand(op.b, {});
  p.m = op.c.size(0);
  p.n = op.c.size(1);
  p.k = op.a.size(1);
  p.offsets = op.offsets.as<const int32_t>();
  p.b_expert = bytes_of(op.b.dtype, op.b.stride[0]);
  set_result(p, op.c, op.accumulate);
  return p;
}

hopper::TileDemand demand_by_rows(const GroupedGemm& op, int64_t columns) {
  return {.reduction = false,
          .gathered = static_cast<bool>(op.a_rows),
          .experts = op.offsets.size(0) - 1,
          .rows = op.c.size(0),
          .columns = columns};
}

/// Lists the tiles: where the context has a list, there and once, else in the workspace. Gives how many there are at
/// most.
int64_t list_tiles(const Context& context, Carver& carver, TileProblem& p, const hopper::TileDemand& demand, int pair) {
  const int64_t row_tiles = hopper::row_tiles(demand, pair);
  TileLists* const lists = row_tiles <= kListedTiles ? context.tile_lists : nullptr;
  int4* const tiles = lists != nullptr ? lists->tiles : carver.take<int4>(row_tiles);
  p.tiles = tiles;
  if (lists != nullptr) {
    if (lists->listed == p.offsets && lists->pair == pair) return row_tiles;
    lists->listed = p.offsets, lists->pair = pair;
  }
  launch(context, tiles_kernel, dim3(1), 8 * kWarp, 0, p.offsets, static_cast<int>(demand.experts),
         static_cast<int>(kTile) * pair, tiles, static_cast<int>(row_tiles));
  return row_tiles;
}

/// Whether SwiGLU can be the end of a product: on Hopper, where operands and results are whole chunks of bf16, and
/// where tiles are enough for all processors (few rows want narrower ones).
bool takes_swiglu(const Context& context, const GroupedGemm& product, const SwiGlu& activation) {
  if (!product.transpose_b || product.accumulate || product.a.size(1) == 0 || !has_hopper_path(context)) return false;
  if (!takes_tensor_path(product.a, product.b) || !in_chunks(product.c) || !in_chunks(activation.y)) return false;
  const int64_t tall = product.c.size(0) / kTile + (product.b.size(0) + 1) / 2;  // as choose_tiles counts them
  const int64_t tiles = tall * ceil_div(activation.y.size(1), hopper::kSwigluColumns / 2);
  return tiles >= processors(context);
}

const float* floats(const View& view) { return view ? view.as<const float>() : nullptr; }
const int* integers(const View& view) { return view ? view.as<const int32_t>() : nullptr; }

RowActivation row_activation(const SwiGlu& activation) {
  return {.scale = floats(activation.scale),
          .scale_index = integers(activation.scale_index),
          .y = static_cast<__nv_bfloat16*>(activation.y.data),
          .y_step = activation.y.stride[0]};
}

}  // namespace

void tile_product(Context& context, const Gemm& op) {
  TileProblem p{};
  p.a = operand(op.a, {});
  p.b = operand(op.b, {});
  p.m = op.c.size(0);
  p.n = op.c.size(1);
  p.k = op.a.size(op.transpose_a ? 0 : 1);
  set_result(p, op.c, op.accumulate);
  const int64_t row_tiles = ceil_div(p.m, kTile);
  if (is_other_weight(op.b.dtype)) {
    if (op.transpose_a) {
      op.transpose_b ? start_other<Grouping::none, true, false>(context, Gemm::name, p, row_tiles)
                     : start_other<Grouping::none, true, true>(context, Gemm::name, p, row_tiles);
    } else {
      op.transpose_b ? start_other<Grouping::none, false, false>(context, Gemm::name, p, row_tiles)
                     : start_other<Grouping::none, false, true>(context, Gemm::name, p, row_tiles);
    }
    return;
  }
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
  TileProblem p = problem_by_rows(op);
  const int64_t rows = p.m;
  if (rows == 0 || p.n == 0) return;
  const bool tensor = takes_tensor_path(op.a, op.b);
  const bool hopper = tensor && has_hopper_path(context) && p.k > 0;
  note_path(context, op, tensor);
  const hopper::TileDemand demand = demand_by_rows(op, p.n);
  const hopper::TileChoice choice = hopper ? hopper::choose_tiles(demand, context.multiprocessors)
                                           : hopper::TileChoice{.columns = static_cast<int>(kTile), .pair = 1};
  Carver carver(context, GroupedGemm::name);
  const int64_t row_tiles = list_tiles(context, carver, p, demand, choice.pair);
  if (is_other_weight(op.b.dtype)) {
    op.transpose_b ? start_other<Grouping::rows, false, false>(context, GroupedGemm::name, p, row_tiles)
                   : start_other<Grouping::rows, false, true>(context, GroupedGemm::name, p, row_tiles);
    return;
  }
  if (hopper) {
    const hopper::Launch launch{context, p, op.a, op.b, choice, row_tiles};
    op.transpose_b ? hopper::start_by_rows(launch) : hopper::start_by_rows_across(launch);
    return;
  }
  op.transpose_b ? start<Grouping::rows, false, false>(context, p, row_tiles, tensor)
                 : start<Grouping::rows, false, true>(context, p, row_tiles, tensor);
}

bool adapted_product(Context& context, const AdaptedProduct& op) {
  const GroupedGemm& whole = op.product;
  const SwiGlu& activation = op.activation;
  constexpr int64_t kLeastRows = 32;  // of an expert, on average
  if (!has_hopper_path(context) || whole.a.size(1) == 0 || whole.c.size(1) == 0 || op.low.elements() == 0 ||
      whole.c.size(0) < kLeastRows * whole.b.size(0)) {
    return false;
  }
  if (!takes_tensor_path(whole.a, op.low) || !in_chunks(op.b)) return false;
  // So small that one matrix of all slices has room, also in what widened weights leave of the workspace.
  constexpr int64_t kLeastTimes = 12;
  if (op.low.size(1) * kLeastTimes > whole.a.size(1)) return false;
  if (op.b.elements() * std::max<int64_t>(op.slice_count(), 1) * 2 > static_cast<int64_t>(context.workspace.bytes) / 2)
    return false;
  bool activated = false;
  // Of all experts, or of some from `first` on.
  const auto run = [&](const GroupedGemm& product, int64_t first) {
    const bool with_swiglu = activation.gate_up && takes_swiglu(context, product, activation);
    TileProblem p = problem_by_rows(product);
    p.k_added = op.low.size(1);
    if (with_swiglu) p.n = activation.y.size(1);
    const hopper::TileDemand demand = demand_by_rows(product, p.n);
    const hopper::TileChoice choice =
        with_swiglu ? hopper::TileChoice{hopper::kSwigluColumns, hopper::choose_pair(demand, context.multiprocessors)}
                    : hopper::choose_tiles(demand, context.multiprocessors);
    Carver carver(context, AdaptedProduct::name);
    const View b = as_one_matrix(context, carver, op, first, product.b.size(0));
    const int64_t row_tiles = list_tiles(context, carver, p, demand, choice.pair);
    hopper::Launch launch{context, p, product.a, product.b, choice, row_tiles, {}, op.low, b};
    activated = with_swiglu;
    if (with_swiglu) {
      launch.activation = row_activation(activation);
      return hopper::start_by_rows_and_swiglu(launch);
    }
    product.transpose_b ? hopper::start_by_rows(launch) : hopper::start_by_rows_across(launch);
  };
  if (!widened_product(context, whole, run)) {
    if (!in_chunks(whole.b)) return false;
    run(whole, 0);
  }
  if (activation.gate_up && !activated) execute(context, activation);
  return true;
}

bool product_and_swiglu(Context& context, const GroupedGemm& product, const SwiGlu& activation) {
  const int64_t width = activation.y.size(1);
  if (few_rows_product_and_swiglu(context, product, activation)) return true;
  if (!takes_swiglu(context, product, activation)) return false;
  TileProblem p = problem_by_rows(product);
  p.n = width;
  const hopper::TileDemand demand = demand_by_rows(product, width);
  const hopper::TileChoice choice{hopper::kSwigluColumns, hopper::choose_pair(demand, context.multiprocessors)};
  Carver carver(context, ExpertRows<SwiGlu>::name);
  const int64_t row_tiles = list_tiles(context, carver, p, demand, choice.pair);
  hopper::start_by_rows_and_swiglu({context, p, product.a, product.b, choice, row_tiles, row_activation(activation)});
  return true;
}

void tile_product(Context& context, const GroupedGemmReduce& op) {
  const bool tensor = takes_tensor_path(op.a, op.b);
  note_path(context, op, tensor);
  // Hopper's kernel gathers rows of its a alone at full speed.
  const bool swap = tensor && has_hopper_path(context) && op.b_rows && !op.a_rows;
  const View &a = swap ? op.b : op.a, &b = swap ? op.a : op.b;
  const int experts = static_cast<int>(op.c.size(0));
  TileProblem p{};
  p.a = operand(a, swap ? op.b_rows : op.a_rows);
  p.b = operand(b, swap ? op.a_rows : op.b_rows);
  p.m = a.size(1);
  p.n = b.size(1);
  p.k = op.a_rows ? op.a_rows.size(0) : op.a.size(0);
  p.offsets = op.offsets.as<const int32_t>();
  set_result(p, op.c, op.accumulate);
  p.c_transposed = swap;
  if (tensor && has_hopper_path(context) && p.k > 0 && p.m > 0 && p.n > 0) {
    const hopper::TileDemand demand{
        .reduction = true, .gathered = p.a.rows != nullptr, .experts = experts, .rows = p.m, .columns = p.n};
    const hopper::TileChoice choice = hopper::choose_tiles(demand, context.multiprocessors);
    Carver carver(context, GroupedGemmReduce::name);
    auto* const order = carver.take<int>(experts);
    launch(context, order_kernel, dim3(1), 256, 0, p.offsets, experts, order);
    p.order = order;
    // A pair runs even where one processor was asked for.
    const int64_t warps = (int64_t{processors(context)} + 1) * hopper::kMultiplyingWarps;
    const bool sums = op.squares && p.c_quads;
    if (sums) {  // blocks that get no tile write none
      p.squares = carver.take<double>(warps);
      check(cudaMemsetAsync(p.squares, 0, static_cast<size_t>(warps) * sizeof(double), context.stream),
            "filling with zeros");
    }
    hopper::start_reduction({context, p, a, b, choice, hopper::row_tiles(demand, choice.pair)});
    if (sums) {
      add_up(context, p.squares, warps, op.squares.as<double>());
    } else if (op.squares) {
      execute(context, SumSquares{.x = op.c, .sum = op.squares});
    }
    return;
  }
  start<Grouping::reduction, true, true>(context, p, experts * ceil_div(p.m, kTile), tensor);
  if (op.squares) execute(context, SumSquares{.x = op.c, .sum = op.squares});
}

bool list_tiles_ahead(Context& context, const GroupedGemm& op) {
  if (!has_hopper_path(context) || !takes_tensor_path(op.a, op.b) || suits_few_rows(op) || op.c.elements() == 0) {
    return false;
  }
  const hopper::TileDemand demand = demand_by_rows(op, op.c.size(1));
  const int pair = hopper::choose_pair(demand, context.multiprocessors);
  if (hopper::row_tiles(demand, pair) > kListedTiles) return false;
  Carver carver(context, GroupedGemm::name);
  TileProblem p = problem_by_rows(op);
  list_tiles(context, carver, p, demand, pair);
  return true;
}

bool gathers(const Context& context, const ExpertsBackward& op) {
  const View &dy = op.down.a, &x = op.gate_up.b, &room = op.rows.last.c;
  if (!op.down.a_rows || !op.down.c || !op.gate_up.c || !has_hopper_path(context)) return false;
  if (!takes_tensor_path(dy, op.rows.first.b) || !takes_tensor_path(x, room)) return false;
  if (!takes_tensor_path(op.down.b, op.gate_up.a)) return false;
  return hopper::worth_gathering(room.size(0), op.down.c.size(0));
}

}  // namespace moe::cuda
