#include "backend/cpu/products.h"

#include <optional>

namespace moe::cpu {
namespace {

/// Floats of b that are widened at once, if K leaves a choice: a part of a second-level cache.
constexpr int64_t kWidenedAtOnce = int64_t{1} << 18;

Operand operand(const Factor& from) {
  return {{from.data, storage_of(from.type)}, from.step, from.rows, from.rows_are_reduced};
}

void multiply_native(const Context& context, const Multiplication& p, const Operand& b, int worker) {
  context.kernels.matrix.product({.a = operand(p.a),
                                  .b = b,
                                  .c = p.c,
                                  .c_type = p.c_type,
                                  .c_step = p.c_step,
                                  .m = p.m,
                                  .n = p.n,
                                  .k = p.k,
                                  .accumulate = p.accumulate},
                                 static_cast<float*>(context.scratch.of(worker)));
}

/// b of a part, with all its rows as f32 in `to`.
Operand widen(const Factor& b, int64_t n, int64_t k, float* to) {
  const int64_t rows = b.rows_are_reduced ? k : n, block = storage(b.type).block;
  const int64_t width = ((b.rows_are_reduced ? n : k) + block - 1) / block * block;
  for (int64_t row = 0; row < rows; ++row) {
    storage(b.type).to_floats(moved(b, row, 0).data, to + row * width, width);
  }
  return {{to, Storage::f32}, width, nullptr, b.rows_are_reduced};
}

/// What kernels call blocks that they multiply as they are.
std::optional<BlockType> block_type(DType type) {
  switch (type) {
    case DType::q8_0:
      return BlockType::q8_0;
    case DType::q4_0:
      return BlockType::q4_0;
    case DType::q4_1:
      return BlockType::q4_1;
    case DType::q5_0:
      return BlockType::q5_0;
    case DType::q5_1:
      return BlockType::q5_1;
    case DType::q4_k:
      return BlockType::q4_k;
    case DType::q5_k:
      return BlockType::q5_k;
    case DType::q6_k:
      return BlockType::q6_k;
    default:
      return std::nullopt;
  }
}

/// Computes it with b's blocks as they are. False: this product has another form, as of a backward pass.
bool multiply_blocks(const Context& context, const Multiplication& p, int worker) {
  const std::optional<BlockType> type = block_type(p.b.type);
  if (!type || p.a.rows_are_reduced || p.b.rows_are_reduced || p.k > kLongestLine) return false;
  MOE_CHECK(p.b.rows == nullptr);
  context.kernels.matrix.block_product({.a = operand(p.a),
                                        .b = p.b.data,
                                        .type = *type,
                                        .b_step = bytes_of(p.b.type, p.b.step),
                                        .c = p.c,
                                        .c_type = p.c_type,
                                        .c_step = p.c_step,
                                        .m = p.m,
                                        .n = p.n,
                                        .k = p.k,
                                        .accumulate = p.accumulate},
                                       static_cast<float*>(context.scratch.of(worker)));
  return true;
}

}  // namespace

void multiply(const Context& context, const Multiplication& p, int worker) {
  if (is_native(p.b.type)) return multiply_native(context, p, operand(p.b), worker);
  if (multiply_blocks(context, p, worker)) return;
  MOE_CHECK(p.b.rows == nullptr);
  const int64_t unit = columns_unit(p), k = std::max<int64_t>(p.k, 1);
  const int64_t wanted = std::max(kWidenedAtOnce / k / unit, int64_t{1}) * unit;
  if (wanted > kScratchFloats / k) {
    fail(
        "{} columns of weights {} long are more {} than the CPU backend widens at once ({}); store them as f32 or bf16",
        wanted, p.k, name(p.b.type), kScratchFloats);
  }
  auto* const floats = static_cast<float*>(context.scratch.widened(worker));
  for (int64_t n = 0; n < p.n; n += wanted) {
    const Multiplication part = part_of(p, 0, p.m, n, std::min(p.n, n + wanted));
    multiply_native(context, part, widen(part.b, part.n, part.k, floats), worker);
  }
}

}  // namespace moe::cpu
