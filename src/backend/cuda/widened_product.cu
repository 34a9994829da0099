#include "backend/cuda/block_types.cuh"
#include "backend/cuda/cublas_parts.h"
#include "backend/cuda/widened_product.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
/// The workspace that the products themselves need.
constexpr int64_t kLeftBytes = int64_t{8} << 20, kLibraryBytes = int64_t{32} << 20;

struct Widening {
  const uint8_t* blocks;
  int64_t row_bytes, expert_bytes;  ///< from one row and one expert to the next
  int rows, parts;                  ///< of a matrix, and of a row
  const int* offsets;               ///< experts without rows are left out; null: none are
  __nv_bfloat16* to;
};

/// A lane of four takes eight elements of a part. Experts are along y.
template <class Type>
__global__ void __launch_bounds__(kThreads) widen_kernel(Widening w) {
  constexpr int kParts = Type::kElements / blocks_of::kPart;
  const int expert = static_cast<int>(blockIdx.y);
  if (w.offsets != nullptr && w.offsets[expert] == w.offsets[expert + 1]) return;
  const auto place = blockIdx.x * kThreads + threadIdx.x;
  const int c = static_cast<int>(place % 4), row = static_cast<int>(place / 4) / w.parts,
            part = static_cast<int>(place / 4) % w.parts;
  if (row >= w.rows) return;
  const uint8_t* const block = w.blocks + expert * w.expert_bytes + row * w.row_bytes + part / kParts * Type::kBytes;
  blocks_of::Codes codes;
  float step[Type::kSteps], minimum = 0;
  Type::codes(block, part % kParts, c, codes);
  Type::scale(block, part % kParts, step, minimum);
  __nv_bfloat16* const to = w.to + (static_cast<int64_t>(expert) * w.rows + row) * w.parts * blocks_of::kPart +
                            part * blocks_of::kPart + 4 * c;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint2 bits;
    auto* const pairs = reinterpret_cast<__nv_bfloat162*>(&bits);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float2 code = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&codes[2 * half + i]));
      const float scale = step[Type::kSteps == 1 ? 0 : half];
      float x = __fmul_rn(scale, code.x), y = __fmul_rn(scale, code.y);
      if constexpr (Type::kMinimum) x = __fadd_rn(x, minimum), y = __fadd_rn(y, minimum);
      pairs[i] = __floats2bfloat162_rn(x, y);
    }
    *reinterpret_cast<uint2*>(to + 16 * half) = bits;
  }
}

constexpr int kNf4Elements = 64, kNf4Bytes = 36, kNf4AtOnce = 8;

/// Blocks of nf4: a thread takes eight elements, in 4 bytes. A row has `parts` times eight.
__global__ void __launch_bounds__(kThreads) widen_nf4_kernel(Widening w) {
  constexpr int kThreadsOfBlock = kNf4Elements / kNf4AtOnce;
  // Sixteen neighbours in shared memory have sixteen banks, so lanes that read different numbers do not wait.
  __shared__ float numbers[16];
  if (threadIdx.x < 16) numbers[threadIdx.x] = other_weights::kNf4.at[threadIdx.x];
  __syncthreads();
  const int expert = static_cast<int>(blockIdx.y);
  if (w.offsets != nullptr && w.offsets[expert] == w.offsets[expert + 1]) return;
  const auto place = blockIdx.x * kThreads + threadIdx.x;
  const int row = static_cast<int>(place) / w.parts, part = static_cast<int>(place) % w.parts;
  if (row >= w.rows) return;
  const uint8_t* const block =
      w.blocks + expert * w.expert_bytes + row * w.row_bytes + part / kThreadsOfBlock * kNf4Bytes;
  const float scale = *reinterpret_cast<const float*>(block);
  const unsigned codes = *reinterpret_cast<const unsigned*>(block + 4 + part % kThreadsOfBlock * 4);
  uint4 bits;
  auto* const pairs = reinterpret_cast<__nv_bfloat162*>(&bits);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned byte = codes >> 8 * i & 255u;
    pairs[i] = __floats2bfloat162_rn(__fmul_rn(numbers[byte >> 4], scale), __fmul_rn(numbers[byte & 15u], scale));
  }
  *reinterpret_cast<uint4*>(w.to + ((static_cast<int64_t>(expert) * w.rows + row) * w.parts + part) * kNf4AtOnce) =
      bits;
}

/// The types that widen() reads.
bool is_widened(DType type) { return is_block_weight(type) || type == DType::nf4; }

/// Queues the widening of matrices [.., rows, width], those of experts without rows left out.
void widen(const Context& context, const View& from, const View& to, const int* offsets) {
  const auto outer = static_cast<size_t>(from.rank() - 2);
  const bool grouped = from.rank() > 2;
  const bool nf4 = from.dtype == DType::nf4;
  const int64_t rows = from.size(from.rank() - 2);
  const int64_t parts = from.size(from.rank() - 1) / (nf4 ? kNf4AtOnce : blocks_of::kPart);
  const Widening w{.blocks = static_cast<const uint8_t*>(from.data),
                   .row_bytes = bytes_of(from.dtype, from.stride[outer]),
                   .expert_bytes = grouped ? bytes_of(from.dtype, from.stride[0]) : 0,
                   .rows = static_cast<int>(rows),
                   .parts = static_cast<int>(parts),
                   .offsets = offsets,
                   .to = static_cast<__nv_bfloat16*>(to.data)};
  dim3 grid = threads_for(rows * parts * (nf4 ? 1 : 4), kThreads);
  if (grouped) grid.y = static_cast<unsigned>(from.size(0));
  if (nf4) return launch(context, widen_nf4_kernel, grid, kThreads, 0, w);
  with_block_type(from.dtype, [&](auto type) { launch(context, widen_kernel<decltype(type)>, grid, kThreads, 0, w); });
}

/// While it exists, the workspace begins behind what has been taken from it. Operations do not start early: what is
/// written to the workspace is not known as written (Context::rests).
class TakenWorkspace {
 public:
  TakenWorkspace(Context& context, const Carver& carver)
      : context_(context), whole_(context.workspace), recording_(context.recording) {
    context.workspace = carver.rest();
    context.recording = nullptr;
  }
  ~TakenWorkspace() {
    context_.workspace = whole_;
    context_.recording = recording_;
  }
  TakenWorkspace(const TakenWorkspace&) = delete;
  TakenWorkspace& operator=(const TakenWorkspace&) = delete;

 private:
  Context& context_;
  Workspace whole_;
  const Written* recording_;
};

template <class Op>
bool supported(const Context& context, const Op& op, int64_t left) {
  return product_path() != CudaPath::simt && op.a.dtype == DType::bf16 && is_widened(op.b.dtype) &&
         op.b.elements() > 0 && op.c.elements() > 0 && static_cast<int64_t>(context.workspace.bytes) > left;
}

/// How many matrices or rows of `elements` elements have room at once.
int64_t at_once(const Context& context, int64_t elements, int64_t left) {
  constexpr int64_t kAlignment = 256;
  return (static_cast<int64_t>(context.workspace.bytes) - left - kAlignment) /
         (elements * static_cast<int64_t>(sizeof(__nv_bfloat16)));
}

/// Divides `total` into parts of about equal size, none above `most`. Returns the size, a multiple of `together` if
/// there are several parts. 0: `most` is less than `together`.
int64_t even_step(int64_t total, int64_t most, int64_t together) {
  if (most >= total) return total;
  most = most / together * together;
  if (most <= 0) return 0;
  return ceil_div(ceil_div(total, ceil_div(total, most)), together) * together;
}

}  // namespace

bool widened_product(Context& context, const Gemm& op, const std::function<void(const Gemm&)>& product) {
  if (!supported(context, op, kLibraryBytes)) return false;
  const int64_t rows = op.b.size(0), width = op.b.size(1);
  // Parts are of c's columns, so that no sum is cut: rows of b, or columns, whole blocks of each row.
  const bool by_rows = op.transpose_b;
  constexpr int64_t kRowsTogether = 128, kColumnsTogether = 64;  // so that every part of c begins as it does
  const int64_t together = by_rows ? kRowsTogether : std::max(kColumnsTogether, storage(op.b.dtype).block);
  const int64_t step =
      even_step(by_rows ? rows : width, at_once(context, by_rows ? width : rows, kLibraryBytes), together);
  if (step == 0) return false;
  Carver carver(context, Gemm::name);
  auto* const room = carver.take<__nv_bfloat16>(step * (by_rows ? width : rows));
  const TakenWorkspace taken(context, carver);
  Gemm whole = op;
  whole.b = View(room, DType::bf16, op.b.shape);  // its shape alone is read
  const PartOf part_of(whole);
  for (int64_t begin = 0; begin < op.c.size(1); begin += step) {
    const int64_t count = std::min(step, op.c.size(1) - begin);
    Gemm part = op;
    part.b = View(room, DType::bf16, by_rows ? Shape{count, width} : Shape{rows, count});
    part.c = op.c.columns(begin, count);
    widen(context, by_rows ? op.b.rows(begin, count) : op.b.columns(begin, count), part.b, nullptr);
    product(part);
  }
  return true;
}

bool widened_product(Context& context, const GroupedGemm& op,
                     const std::function<void(const GroupedGemm&, int64_t)>& product) {
  if (!supported(context, op, kLeftBytes)) return false;
  const int64_t experts = op.b.size(0), rows = op.b.size(1), width = op.b.size(2);
  const int64_t step = std::min(experts, at_once(context, rows * width, kLeftBytes));
  if (step == 0) return false;
  Carver carver(context, GroupedGemm::name);
  const View room(carver.take<__nv_bfloat16>(step * rows * width), DType::bf16, {step, rows, width});
  const TakenWorkspace taken(context, carver);
  for (int64_t begin = 0; begin < experts; begin += step) {
    const int64_t count = std::min(step, experts - begin);
    GroupedGemm part = op;
    part.offsets = op.offsets.rows(begin, count + 1);
    part.b = room.rows(0, count);
    widen(context, op.b.rows(begin, count), part.b, part.offsets.as<const int32_t>());
    product(part, begin);
  }
  return true;
}

}  // namespace moe::cuda
