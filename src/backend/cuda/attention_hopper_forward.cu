// Attention's forward pass on Hopper over packed documents.

#include "backend/cuda/attention_hopper_forward.cuh"

namespace moe::cuda {
namespace {

using namespace hopper_tiles;

/// The Source of attention_hopper_forward.cuh for documents in one matrix.
struct Packed : Problem {
  using Work = hopper_tiles::Work;
  static constexpr bool kClears = false;  // keys behind the last are other rows, or zeros
  static constexpr Registers kRegisters{kLoadRegisters, kMultiplyRegisters};
  float* lse;
  int64_t lse_step;

  __device__ static Work agreed(const Work& work) { return hopper_tiles::agreed(work); }

  /// The last queries, which see the most keys, come first, and all heads of some queries come before the next queries.
  __device__ Work next() const {
    const int piece = take(*this);
    if (piece < 0) return {-1, 0, 0, 0};
    const int tiles = pieces / heads;
    const int first = (tiles - 1 - piece / heads) * kOwned;
    const int start = first_key(*this, first);
    return {piece % heads, first, first, start == INT32_MAX ? 0 : (first - start / kKeys * kKeys) / kKeys + 1};
  }

  __device__ static int find(const Work&, int row) { return row; }
  template <int kSize>
  __device__ static void load(const CUtensorMap& map, Element* shared, uint64_t* barrier, int head, int row) {
    expect_bytes(barrier, kKeys * kSize * sizeof(Element));
    hopper_tiles::load<kSize, kKeys>(map, shared, barrier, head, row);
  }

  __device__ void see(const Work& work, int row, Seen& seen) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = work.first + row + 8 * half, start = t < tokens ? segment_start[t] : -1;
      seen.set(half, start < 0 ? INT32_MAX : start, t);
    }
  }

  template <int kSize>
  __device__ void finish(const Work& work, int row, const Seen& seen, const Softmax& softmax, const float (&total)[2],
                         const float (&sum)[kSize / 2], const CUtensorMap& out, Element* staging) const {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool padding = seen.hides_all(half);
      factor[half] = padding ? 0.0f : 1 / total[half];
      const int t = work.first + row + 8 * half;
      if (lane() % 4 != 0 || t >= tokens) continue;
      lse[t * lse_step + work.head] = padding ? 0.0f : (softmax.largest[half] + log2f(total[half])) / kLog2e;
    }
    store_rows<kSize, 0>(out, staging, sum, factor[0], factor[1], work.head, work.first + group_row());
  }

 private:
  __device__ static int group_row() { return hopper_tiles::group() * kHalf; }
};

template <int kSize>
void run(Context& context, const Attention& op, const AttentionShape& shape) {
  Carver carver(context, Attention::name);
  const int64_t pieces = ceil_div(shape.tokens, kOwned) * shape.heads;
  int* const taken = zero_counters(context, carver, 1);
  const Packed source{problem(shape, op.segment_start.as<const int32_t>(), taken, pieces), op.lse.as<float>(),
                      op.lse.stride[0]};
  start(context, forward_kernel<kSize, Packed>, pieces, ForwardMemory<kSize, Packed>::kBytes, source,
        tensor_map(op.q, kOwned, Attention::name), tensor_map(op.k, kKeys, Attention::name),
        tensor_map(op.v, kKeys, Attention::name), tensor_map(op.out, kHalf, Attention::name));
}

}  // namespace

void hopper_attention(Context& context, const Attention& op, const AttentionShape& shape) {
  shape.head_size == 64 ? run<64>(context, op, shape) : run<128>(context, op, shape);
}

}  // namespace moe::cuda
