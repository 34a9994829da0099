#pragma once
/// The rotation of one pair of numbers, in one place, so that every kernel that rotates gives the same bits.

namespace moe::cuda {

/// What becomes of `own`: with the sine's sign changed, of the first number of a pair; else of the second.
__device__ inline float rotated(float own, float other, float cosine, float sine) {
  return __fmaf_rn(own, cosine, __fmul_rn(other, sine));
}
/// (low, high) turned by the angle with this cosine and sine.
__device__ inline void rotate(float& low, float& high, float cosine, float sine) {
  const float first = rotated(low, high, cosine, -sine);
  high = rotated(high, low, cosine, sine);
  low = first;
}

}  // namespace moe::cuda
