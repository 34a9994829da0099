#pragma once

#include "tensor/view.h"

namespace moe {

/// The tokens of one microbatch, on the device. T tokens, padding included.
struct TokenViews {
  View ids;            ///< i32 [T]
  View targets = {};   ///< i32 [T], negative: no loss; absent in inference
  View weights = {};   ///< stat [T], of the targets' losses; absent: 1 everywhere
  View positions;      ///< i32 [T], from 0 in every document
  View rope;           ///< stat [T, h]: RopeTable of positions
  View segment_start;  ///< i32 [T], -1: padding (Attention)
  View valid;          ///< i32 [T]: 0, or -1 for padding; the group for statistics over all tokens
  int64_t max_segment;
  int64_t row_length = 0;  ///< tokens in a batch row; 0 with a cache, where there are no rows
  /// Inference with a cache; absent otherwise: the sequence of each token, and where each sequence is in the cache.
  View sequence = {};  ///< i32 [T], -1: padding
  View pages = {};     ///< i32 [S, M]: the pages of each sequence (KvAppend)

  int64_t count() const { return ids.size(0); }
};

}  // namespace moe
