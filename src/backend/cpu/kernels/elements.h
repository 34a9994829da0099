#pragma once
/// Vectors of elements whose type, f32 or bf16, is known only when the kernel runs. The choice costs one predicted
/// branch per vector, which the memory access hides. It saves compiling every kernel for every mix of types. Only for
/// sources under kernels/.

#include "backend/cpu/kernels/simd.h"
#include "backend/cpu/kernels/storage.h"

namespace moe::cpu::MOE_ISA {

/// All lanes, or the first n.
struct Whole {};
struct Part {
  int n;
};

inline vf load(const float* x, int64_t i, Whole) { return load(x + i); }
inline vf load(const float* x, int64_t i, Part part) { return load_part(x + i, part.n); }
inline void store(float* y, int64_t i, vf value, Whole) { store(y + i, value); }
inline void store(float* y, int64_t i, vf value, Part part) { store_part(y + i, value, part.n); }

template <class Lanes>
inline vf load(In x, int64_t i, Lanes lanes) {
  if (x.type == Storage::f32) return load(static_cast<const float*>(x.data), i, lanes);
  const bf16* p = static_cast<const bf16*>(x.data) + i;
  if constexpr (__is_same(Lanes, Whole)) {
    return load(p);
  } else {
    return load_part(p, lanes.n);
  }
}

template <class Lanes>
inline vf load(Out x, int64_t i, Lanes lanes) {
  return load(In{x.data, x.type}, i, lanes);
}

template <class Lanes>
inline void store(Out y, int64_t i, vf value, Lanes lanes) {
  if (y.type == Storage::f32) return store(static_cast<float*>(y.data), i, value, lanes);
  bf16* p = static_cast<bf16*>(y.data) + i;
  if constexpr (__is_same(Lanes, Whole)) {
    store(p, value);
  } else {
    store_part(p, value, lanes.n);
  }
}

/// Calls body(i, lanes) for every vector of [0, n). The last vector may be partial.
template <class Body>
inline void for_vectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, Whole{});
  if (i < n) body(i, Part{static_cast<int>(n - i)});
}

inline float element(In x, int64_t i) { return load(x, i, Part{1})[0]; }

}  // namespace moe::cpu::MOE_ISA
