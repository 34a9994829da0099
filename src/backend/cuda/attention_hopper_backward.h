#pragma once
/// The two kernels of attention's backward pass on Hopper. One computes dq, and its blocks own queries; the other
/// computes dk and dv, and its blocks own keys. Both compute the probabilities again from lse. They add nothing with
/// atomics, so the bits are always the same.

#include "backend/cuda/attention.h"

namespace moe::cuda {

/// Results of the first kernel for the second, in the workspace. Rows of padding and rows after the last token hold 0.
struct HopperStatistics {
  float* lse2;   ///< [Hq, rows]: lse to the base 2
  float* delta;  ///< [Hq, rows]: d_out . out
  int64_t rows;  ///< T rounded up to whole blocks
};

void hopper_query_gradient(Context& context, const AttentionBackward& op, const AttentionShape& shape, int* taken,
                           const HopperStatistics& statistics);
/// `last_query`: last_queries of attention.h.
void hopper_key_gradient(Context& context, const AttentionBackward& op, const AttentionShape& shape, int* taken,
                         const HopperStatistics& statistics, const int* last_query);

}  // namespace moe::cuda
