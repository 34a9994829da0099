// Attention's forward pass on the tensor cores over packed documents.

#include "backend/cuda/attention_forward.cuh"

namespace moe::cuda {
namespace {

using namespace tiles;

/// The Source of attention_forward.cuh for documents in one matrix.
struct Packed {
  struct Tile {
    int64_t first, end, first_key, passes;
  };
  HeadMatrix k, v;
  const int* segment_start;
  int64_t tokens;
  float* lse;
  int64_t lse_step;

  __device__ Tile aim(int block, int blocks) const {
    const int64_t first = static_cast<int64_t>(blocks - 1 - block) * kRows;  // those with most keys first
    const int64_t key = first_key(segment_start, first, tokens), end = min(first + kRows, tokens);
    return {first, end, key, key < end ? (end - key + kRows - 1) / kRows : 0};
  }
  __device__ void see(const Tile&, int query, int& first, int& last) const {
    first = segment_start[query];
    last = query;
  }
  template <int kSize>
  __device__ void load(const Tile&, int64_t key, int64_t column, int size, __nv_bfloat16* keys,
                       __nv_bfloat16* values) const {
    load_tile<kSize>(k, key, tokens, column, size, keys);
    load_tile<kSize>(v, key, tokens, column, size, values);
  }
  __device__ void finish(int query, int head, bool none, float largest, float total) const {
    lse[query * lse_step + head] = none ? 0.0f : (largest + log2f(total)) / kLog2e;
  }
};

}  // namespace

void tensor_attention(Context& context, const Attention& op, const AttentionShape& shape) {
  const Packed source{.k = head_matrix(op.k),
                      .v = head_matrix(op.v),
                      .segment_start = op.segment_start.as<const int32_t>(),
                      .tokens = shape.tokens,
                      .lse = op.lse.as<float>(),
                      .lse_step = op.lse.stride[0]};
  const int64_t count = ceil_div(shape.tokens, kRows);
  shape.head_size <= 64 ? start_forward<64>(context, source, count, op.q, op.out, shape)
                        : start_forward<128>(context, source, count, op.q, op.out, shape);
}

}  // namespace moe::cuda
