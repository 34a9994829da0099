#pragma once
/// The two kernels of attention's backward pass on Hopper: one makes dq, whose blocks own queries, and one dk and dv,
/// whose blocks own keys. Both make the probabilities again from lse. Nothing is added by atomics: the bits are always
/// the same.

#include "backend/cuda/attention.h"

namespace moe::cuda {

/// What the first kernel makes for the second, in the workspace. Rows of padding and behind the last token hold 0.
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
