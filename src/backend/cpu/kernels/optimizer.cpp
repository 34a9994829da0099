#include "backend/cpu/kernels/elements.h"
#include "backend/cpu/kernels/rows.h"

namespace moe::cpu::MOE_ISA {

OptimizerKernels optimizer_kernels();

namespace {

void adamw(const AdamWChunk& c) {
  const Out master = c.master ? Out{c.master, Storage::f32} : c.param;
  for_vectors(c.count, [&](int64_t i, auto lanes) {
    const vf g = load(c.gradient, i, lanes) * splat(c.gradient_scale);
    const vf m = fma(splat(c.beta1), load(c.exp_avg, i, lanes), splat(c.one_minus_beta1) * g);
    const vf v = fma(splat(c.beta2), load(c.exp_avg_sq, i, lanes), splat(c.one_minus_beta2) * g * g);
    store(c.exp_avg, i, m, lanes);
    store(c.exp_avg_sq, i, v, lanes);
    const vf step = m * splat(c.correction1) / (sqrt(v * splat(c.correction2)) + splat(c.eps));
    const vf p = load(master, i, lanes) * splat(c.keep) - splat(c.learning_rate) * step;
    store(master, i, p, lanes);
    if (c.master) store(c.param, i, p, lanes);
  });
}

void blend(In x, float x_factor, Out y, float y_factor, int64_t n) {
  const vf of_x = splat(x_factor), of_y = splat(y_factor);
  for_vectors(
      n, [&](int64_t i, auto lanes) { store(y, i, fma(of_x, load(x, i, lanes), of_y * load(y, i, lanes)), lanes); });
}

void scale(In x, float factor, Out y, int64_t n) {
  const vf by = splat(factor);
  for_vectors(n, [&](int64_t i, auto lanes) { store(y, i, by * load(x, i, lanes), lanes); });
}

// Half a vector of floats fills a vector of doubles.
constexpr int kHalf = kLanes / 2;
typedef double vd __attribute__((vector_size(4 * kLanes)));
typedef float vf_half __attribute__((vector_size(2 * kLanes), aligned(4), may_alias));

double sum_squares(const float* x, int64_t n) {
  constexpr int kSums = 4;
  vd sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kHalf <= n; i += kSums * kHalf) {
    for (int k = 0; k < kSums; ++k) {
      const vd value = __builtin_convertvector(*(const vf_half*)(x + i + k * kHalf), vd);
      sums[k] += value * value;
    }
  }
  double total = 0;
  for (int k = 0; k < kSums; ++k) {
    for (int lane = 0; lane < kHalf; ++lane) total += sums[k][lane];
  }
  for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

}  // namespace

OptimizerKernels optimizer_kernels() {
  return {.adamw = adamw, .blend = blend, .scale = scale, .sum_squares = sum_squares};
}

}  // namespace moe::cpu::MOE_ISA
