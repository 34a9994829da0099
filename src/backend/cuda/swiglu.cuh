#pragma once
/// SwiGLU and its gradient for a chunk of neighbours: the same arithmetic in kernels of their own and at the end of
/// products.

#include "backend/cuda/kernel.cuh"

namespace moe::cuda {

__device__ inline float power_of_2(float x) {
  float y;
  asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / (1 + exp(-z)) without overflow: its relative error is small where the value is, too. By the units for special
/// functions, whose few units of rounding the bound has room for: with expf and a division these kernels are slower
/// than the memory.
__device__ inline float sigmoid_of(float z) {
  constexpr float kLog2E = 1.4426950408889634f;
  const float e = power_of_2(-fabsf(z) * kLog2E);
  return __fdividef(z < 0 ? e : 1.0f, 1 + e);
}

/// factor * silu(gate) * up.
__device__ inline float swiglu(float gate, float up, float factor) { return factor * (gate * sigmoid_of(gate) * up); }
__device__ inline void swiglu(const float (&gate)[kChunk], const float (&up)[kChunk], float factor,
                              float (&y)[kChunk]) {
#pragma unroll
  for (int i = 0; i < kChunk; ++i) y[i] = swiglu(gate[i], up[i], factor);
}

/// gate and up become their gradients, `d` the activation; d_factor gets its part.
__device__ inline void swiglu_backward(float (&gate)[kChunk], float (&up)[kChunk], float (&d)[kChunk], float factor,
                                       float& d_factor) {
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const float sigmoid = sigmoid_of(gate[i]);
    const float activation = gate[i] * sigmoid;
    const float value = factor * (activation * up[i]);
    d_factor += d[i] * (activation * up[i]);
    const float scaled = factor * d[i];
    const float d_gate = scaled * up[i] * (sigmoid * (1 + gate[i] * (1 - sigmoid)));
    up[i] = scaled * activation;
    gate[i] = d_gate;
    d[i] = value;
  }
}

}  // namespace moe::cuda
