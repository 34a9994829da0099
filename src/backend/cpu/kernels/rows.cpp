#include "backend/cpu/kernels/rows.h"

#include "backend/cpu/kernels/elements.h"
#include "backend/cpu/kernels/halves.h"

namespace moe::cpu::MOE_ISA {

SoftmaxKernels softmax_kernels();
OptimizerKernels optimizer_kernels();
RowKernels row_kernels();

namespace {

void convert(In x, Out y, int64_t n) {
  if (y.type == Storage::f16) {
    uint16_t* const to = static_cast<uint16_t*>(y.data);
    return for_vectors(n, [&](int64_t i, auto lanes) { store_halves(to + i, load(x, i, lanes), lanes); });
  }
  for_vectors(n, [&](int64_t i, auto lanes) { store(y, i, load(x, i, lanes), lanes); });
}

void add(In x, Out y, int64_t n) {
  for_vectors(n, [&](int64_t i, auto lanes) { store(y, i, load(y, i, lanes) + load(x, i, lanes), lanes); });
}

/// The value as `to` would give it back.
vf rounded(vf value, Storage to) { return to == Storage::bf16 ? widen(narrow(value)) : value; }

float rms_norm(const RmsNormRow& row) {
  vf squares = zero();
  In x = row.x;
  if (row.residual.data) {
    // The statistics are those of the stored sum, because backward and the next block see only that.
    for_vectors(row.width, [&](int64_t i, auto lanes) {
      const vf total = rounded(load(row.x, i, lanes) + load(row.residual, i, lanes), row.sum.type);
      squares = fma(total, total, squares);
      store(row.sum, i, total, lanes);
    });
    x = {row.sum.data, row.sum.type};
  } else {
    for_vectors(row.width, [&](int64_t i, auto lanes) {
      const vf value = load(x, i, lanes);
      squares = fma(value, value, squares);
    });
  }
  const float inv_rms = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(row.width) + row.eps);
  for_vectors(row.width, [&](int64_t i, auto lanes) {
    const vf normal = rounded(load(x, i, lanes) * splat(inv_rms), row.y.type);
    store(row.y, i, load(row.gain, i, lanes) * normal, lanes);
  });
  return inv_rms;
}

void rms_norm_backward(const RmsNormBackwardRow& row) {
  const vf inv_rms = splat(row.inv_rms);
  vf products = zero();
  for_vectors(row.width, [&](int64_t i, auto lanes) {
    const vf dy = load(row.dy, i, lanes);
    const vf normal = load(row.x, i, lanes) * inv_rms;
    products = fma(load(row.gain, i, lanes) * dy, normal, products);
    store(row.dgain, i, fma(dy, normal, load(row.dgain, i, lanes)), lanes);
  });
  const vf mean = splat(sum(products) / static_cast<float>(row.width));
  for_vectors(row.width, [&](int64_t i, auto lanes) {
    const vf normal = load(row.x, i, lanes) * inv_rms;
    const vf d_normal = load(row.gain, i, lanes) * load(row.dy, i, lanes) - normal * mean;
    store(row.dx, i, fma(inv_rms, d_normal, load(row.dx, i, lanes)), lanes);
  });
}

/// 1 / (1 + e^-z) and 1 / (1 + e^z). Neither overflows, cancels or loses a small result.
struct Sigmoid {
  vf of_z;
  vf of_minus_z;
};

Sigmoid sigmoid(vf z) {
  const vi positive = z > zero();
  const vf small = exp_of_minus(z);
  const vf large_side = splat(1.0f) / (splat(1.0f) + small);
  const vf small_side = small * large_side;
  return {positive ? large_side : small_side, positive ? small_side : large_side};
}

void swiglu(In gate, In up, float scale, Out y, int64_t width) {
  for_vectors(width, [&](int64_t i, auto lanes) {
    const vf g = load(gate, i, lanes);
    const vf silu = g * sigmoid(g).of_z;
    store(y, i, splat(scale) * (silu * load(up, i, lanes)), lanes);
  });
}

float swiglu_backward(const SwiGluBackwardRow& row) {
  const vf scale = splat(row.scale);
  vf d_scale = zero();
  for_vectors(row.width, [&](int64_t i, auto lanes) {
    const vf g = load(row.gate, i, lanes);
    const vf u = load(row.up, i, lanes);
    const vf dy = load(row.dy, i, lanes);
    const Sigmoid s = sigmoid(g);
    const vf silu = g * s.of_z;
    const vf a = silu * u;
    const vf slope = fma(silu, s.of_minus_z, s.of_z);
    d_scale = fma(dy, a, d_scale);
    store(row.d_gate, i, scale * dy * u * slope, lanes);
    store(row.d_up, i, scale * dy * silu, lanes);
    if (row.y.data) store(row.y, i, scale * a, lanes);
  });
  return sum(d_scale);
}

void rope(Out x, const float* table, int64_t heads, int64_t half_size, bool inverse) {
  const vf sign = splat(inverse ? -1.0f : 1.0f);
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t first = head * 2 * half_size;
    for_vectors(half_size, [&](int64_t j, auto lanes) {
      const vf c = load(table, j, lanes);
      const vf s = load(table, half_size + j, lanes) * sign;
      const vf x1 = load(x, first + j, lanes);
      const vf x2 = load(x, first + half_size + j, lanes);
      store(x, first + j, x1 * c - x2 * s, lanes);
      store(x, first + half_size + j, x2 * c + x1 * s, lanes);
    });
  }
}

void combine(const CombineRow& row) {
  for_vectors(row.width, [&](int64_t i, auto lanes) {
    vf total = row.accumulate ? load(row.y, i, lanes) : zero();
    if (row.residual.data) total += load(row.residual, i, lanes);
    for (int64_t k = 0; k < row.count; ++k) {
      if (row.index[k] >= 0) total += load(row.rows, row.index[k] * row.row_stride + i, lanes);
    }
    store(row.y, i, total, lanes);
  });
}

}  // namespace

RowKernels row_kernels() {
  return {.convert = convert,
          .add = add,
          .rms_norm = rms_norm,
          .rms_norm_backward = rms_norm_backward,
          .swiglu = swiglu,
          .swiglu_backward = swiglu_backward,
          .rope = rope,
          .combine = combine,
          .softmax = softmax_kernels(),
          .optimizer = optimizer_kernels()};
}

}  // namespace moe::cpu::MOE_ISA
