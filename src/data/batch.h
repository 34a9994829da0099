#pragma once
/// Packed rows of tokens, as one microbatch takes them.

#include <cstdint>
#include <vector>

namespace moe {

/// Some rows of a step, flat: entry r * sequence_length + t belongs to row r. What is "-1" on padding is -1 there.
struct Batch {
  int64_t rows = 0;
  int64_t sequence_length = 0;

  /// 0 on padding.
  std::vector<int32_t> tokens;
  /// The next token of the same document, across a row's end too; -1 (ignored) behind a document's last token and on
  /// padding.
  std::vector<int32_t> targets;
  /// Counted from 0 in each segment; 0 on padding.
  std::vector<int32_t> positions;
  /// Flat index of the first token of the token's segment; -1 on padding. Attention sees [segment_start, itself].
  std::vector<int32_t> segment_start;
  /// Segments of this batch, counted from 0 in the order of their tokens; -1 on padding.
  std::vector<int32_t> segment_id;
  /// Index into the documents' domain names; -1 on padding.
  std::vector<int32_t> domain;

  /// Tokens of each segment.
  std::vector<int32_t> segment_tokens = {};
  /// Tokens that are no padding.
  int64_t num_tokens = 0;
  /// Targets that are not ignored.
  int64_t num_targets = 0;
};

}  // namespace moe
