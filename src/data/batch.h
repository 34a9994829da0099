#pragma once
/// Packed rows of tokens, as one microbatch takes them.

#include <cstdint>
#include <vector>

namespace moe {

/// `rows` rows of equal length, flattened; documents are packed whole where they fit, the rest of a row is padding.
/// A segment is one document's part in a row; a document cut by a row's end is two segments.
struct Batch {
  int64_t rows = 0;
  std::vector<int32_t> tokens;          ///< ids; 0 at padding
  std::vector<int32_t> targets;         ///< the next token of the document; -1: no loss
  std::vector<int32_t> positions;       ///< from 0 in every segment
  std::vector<int32_t> segment_start;   ///< index in this batch of the segment's first token; -1: padding
  std::vector<int32_t> segment_id;      ///< from 0, in order; -1: padding
  std::vector<int32_t> segment_tokens;  ///< length of each segment
  std::vector<int32_t> domain;          ///< of each token; -1: padding
  int64_t num_targets = 0;              ///< tokens with a target
  int64_t num_tokens = 0;               ///< tokens that are not padding
};

}  // namespace moe
