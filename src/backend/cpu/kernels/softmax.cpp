#include <math.h>

#include "backend/cpu/kernels/elements.h"
#include "backend/cpu/kernels/rows.h"

namespace moe::cpu::MOE_ISA {

SoftmaxKernels softmax_kernels();

namespace {

float max_of(In x, int64_t first, int64_t count) {
  vf largest = splat(-__builtin_inff());
  for_vectors(count, [&](int64_t i, auto lanes) {
    vf value = load(x, first + i, lanes);
    if constexpr (__is_same(decltype(lanes), Part)) value = first_lanes(lanes.n) ? value : largest;
    largest = max(value, largest);
  });
  return max_lane(largest);
}

float sum_exp(In x, int64_t first, int64_t count, float shift) {
  vf total = zero();
  for_vectors(count, [&](int64_t i, auto lanes) {
    vf value = exp(load(x, first + i, lanes) - splat(shift));
    if constexpr (__is_same(decltype(lanes), Part)) value = first_lanes(lanes.n) ? value : zero();
    total += value;
  });
  return sum(total);
}

/// log-sum-exp as a shift and a sum: log(sum) + shift.
struct LogSum {
  float shift;
  double sum;
};

/// One pass, in pieces that stay in the first-level cache. A larger maximum rescales the sum so far.
LogSum log_sum(In x, int64_t width) {
  constexpr int64_t kPiece = 1024;
  LogSum result{-__builtin_inff(), 0};
  for (int64_t first = 0; first < width; first += kPiece) {
    const int64_t count = width - first < kPiece ? width - first : kPiece;
    const float largest = max_of(x, first, count);
    if (largest > result.shift) {
      result.sum *= ::exp(static_cast<double>(result.shift) - static_cast<double>(largest));
      result.shift = largest;
    }
    const float shift =
        result.shift > -__builtin_inff() ? result.shift : 0;  // only -infinity so far: e^x is 0, not NaN
    result.sum += static_cast<double>(sum_exp(x, first, count, shift));
  }
  return result;
}

float cross_entropy(const CrossEntropyRow& row) {
  const LogSum total = log_sum(row.logits, row.width);
  const double margin = static_cast<double>(element(row.logits, row.target)) - static_cast<double>(total.shift);
  if (row.gradient_scale) {
    const double scale = static_cast<double>(*row.gradient_scale);
    const vf factor = splat(static_cast<float>(scale / total.sum));
    for_vectors(row.width, [&](int64_t i, auto lanes) {
      store(row.d_logits, i, exp(load(row.logits, i, lanes) - splat(total.shift)) * factor, lanes);
    });
    const auto at_target = static_cast<float>(scale * (::exp(margin) / total.sum - 1.0));
    store(row.d_logits, row.target, splat(at_target), Part{1});
  }
  return static_cast<float>(::log(total.sum) - margin);
}

/// Dot products of kTokens rows with kExperts rows. The sum of each is the same as for one pair alone.
template <int kTokens, int kExperts>
void logits_tile(const RouterLogits& block, int64_t token, int64_t expert) {
  // Sums in f32 lanes over a piece of the width, and in f64 over the pieces. So the routing agrees with exact
  // arithmetic wherever scores differ by more than their own rounding.
  constexpr int64_t kPiece = 64 * kLanes;
  double totals[kTokens][kExperts] = {};
  for (int64_t first = 0; first < block.width; first += kPiece) {
    const int64_t count = block.width - first < kPiece ? block.width - first : kPiece;
    vf sums[kTokens][kExperts] = {};
    for_vectors(count, [&](int64_t i, auto lanes) {
      vf w[kExperts];
      for (int e = 0; e < kExperts; ++e) {
        w[e] = load(block.weight, (expert + e) * block.weight_stride + first + i, lanes);
      }
      for (int t = 0; t < kTokens; ++t) {
        const vf x = load(block.x, (token + t) * block.x_stride + first + i, lanes);
        for (int e = 0; e < kExperts; ++e) sums[t][e] = fma(x, w[e], sums[t][e]);
      }
    });
    for (int t = 0; t < kTokens; ++t) {
      for (int e = 0; e < kExperts; ++e) totals[t][e] += static_cast<double>(sum(sums[t][e]));
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int e = 0; e < kExperts; ++e) {
      block.logits[(token + t) * block.logits_stride + expert + e] = static_cast<float>(totals[t][e]);
    }
  }
}

/// As many sums of four tokens as possible; the other registers hold the operands.
constexpr int kMostExperts = kLanes == 16 ? 6 : 2;

template <int kTokens>
void logits_rows(const RouterLogits& block, int64_t token) {
  int64_t expert = 0;
  for (; expert + kMostExperts <= block.experts; expert += kMostExperts) {
    logits_tile<kTokens, kMostExperts>(block, token, expert);
  }
  for (; expert + 2 <= block.experts; expert += 2) logits_tile<kTokens, 2>(block, token, expert);
  if (expert < block.experts) logits_tile<kTokens, 1>(block, token, expert);
}

void router_logits(const RouterLogits& block) {
  int64_t token = 0;
  for (; token + 4 <= block.tokens; token += 4) logits_rows<4>(block, token);
  for (; token < block.tokens; ++token) logits_rows<1>(block, token);
}

void softmax(float* x, int64_t n) {
  const In in{x, Storage::f32};
  const float largest = max_of(in, 0, n);
  const vf total = splat(sum_exp(in, 0, n, largest));
  for_vectors(n, [&](int64_t i, auto lanes) { store(x, i, exp(load(x, i, lanes) - splat(largest)) / total, lanes); });
}

float dot(const float* a, const float* b, int64_t n) {
  vf products = zero();
  for_vectors(n, [&](int64_t i, auto lanes) { products = fma(load(a, i, lanes), load(b, i, lanes), products); });
  return sum(products);
}

void softmax_backward(const float* y, float* dx, int64_t n) {
  const vf mean = splat(dot(y, dx, n));
  for_vectors(n, [&](int64_t i, auto lanes) { store(dx, i, load(y, i, lanes) * (load(dx, i, lanes) - mean), lanes); });
}

}  // namespace

SoftmaxKernels softmax_kernels() {
  return {.cross_entropy = cross_entropy,
          .router_logits = router_logits,
          .softmax = softmax,
          .softmax_backward = softmax_backward,
          .dot = dot};
}

}  // namespace moe::cpu::MOE_ISA
