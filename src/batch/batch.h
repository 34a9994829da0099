#pragma once
/// Packed rows of tokens, in the form of a microbatch.

#include <cstdint>
#include <span>
#include <vector>

namespace moe {

/// Some rows of a step, flat: entry r * sequence_length + t belongs to row r. The comments say which value padding has.
struct Batch {
  int64_t rows = 0;
  int64_t sequence_length = 0;

  /// 0 on padding.
  std::vector<int32_t> tokens;
  /// The next token of the same document, also across the end of a row; -1 (ignored) after a document's last token,
  /// where that token is only read and not learned, and on padding.
  std::vector<int32_t> targets;
  /// What the loss of each target counts; empty: 1 everywhere. A mean is divided by their sum.
  std::vector<float> weights = {};
  /// Counted from 0 in each segment; 0 on padding.
  std::vector<int32_t> positions;
  /// Flat index of the first token of the token's segment; -1 on padding. Attention sees the tokens from segment_start
  /// to the token itself.
  std::vector<int32_t> segment_start;
  /// Segments of this batch, counted from 0 in the order of their tokens; -1 on padding.
  std::vector<int32_t> segment_id;
  /// Index into the documents' domain names; -1 on padding.
  std::vector<int32_t> domain;

  /// The number of tokens of each segment.
  std::vector<int32_t> segment_tokens = {};
  /// Of pairs of documents, which are segments 2 i and 2 i + 1: for each segment, the log-probability of its learned
  /// tokens under the reference (train/preference.h); else empty.
  std::vector<double> reference = {};
  /// The number of tokens that are not padding.
  int64_t num_tokens = 0;
  /// The number of targets that are not ignored.
  int64_t num_targets = 0;

  /// The sum of the weights of the targets: num_targets without weights.
  double total_weight() const;
};

/// One document without padding; its last token has no target.
Batch single_document(std::span<const int32_t> tokens);

/// Some rows of a batch, in the given order. Indices of segments are relative to it.
Batch some_rows(const Batch& batch, std::span<const int64_t> rows);

/// A batch for a pass over a null device, where only sizes matter.
Batch placeholder_batch(int64_t tokens, int64_t row_length);

}  // namespace moe
