#pragma once
/// Packing documents into rows of equal length.

#include <cstdint>
#include <span>
#include <vector>

#include "data/documents.h"

namespace moe {

/// A segment of a row: tokens [begin, begin + length) of a document.
struct Piece {
  int64_t document = 0;
  int32_t begin = 0;
  int32_t length = 0;
  bool operator==(const Piece&) const = default;
};

/// Rows of pieces. Row r holds the pieces [row_begins[r], row_begins[r + 1]), from its first token on and without gaps;
/// the rest of the row is padding. A piece takes 16 bytes, a row 8.
struct PackedRows {
  std::vector<Piece> pieces;
  std::vector<int64_t> row_begins = {0};
  int64_t tokens = 0;

  int64_t count() const { return static_cast<int64_t>(row_begins.size()) - 1; }
  std::span<const Piece> row(int64_t index) const;
};

/// Packs every token of every document exactly once. A document longer than `sequence_length` is cut into full rows and
/// a rest. Documents and rests are never cut further. In the order of `order`, each goes to the first of up to
/// `open_rows` open rows that has room. If none has room, a new row is opened. If too many rows are then open, the
/// fullest one is closed.
PackedRows pack(const Documents& documents, std::span<const int64_t> order, int64_t sequence_length,
                int64_t open_rows = 256);

/// Packs pairs of documents: pair p is documents 2 p and 2 p + 1, which follow each other in one row. `order` has
/// pairs. An error for a pair that is longer than a row.
PackedRows pack_pairs(const Documents& documents, std::span<const int64_t> order, int64_t sequence_length);

}  // namespace moe
