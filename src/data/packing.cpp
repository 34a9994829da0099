#include "data/packing.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace moe {
namespace {

class Packer {
 public:
  Packer(int64_t sequence_length, int64_t open_rows) : sequence_length_(sequence_length), most_open_(open_rows) {}

  void add(int64_t document, int64_t length) {
    int64_t begin = 0;
    for (; length - begin >= sequence_length_; begin += sequence_length_) {
      close({piece(document, begin, sequence_length_)});
    }
    if (begin < length) place(piece(document, begin, length - begin));
  }

  PackedRows finish() {
    for (const OpenRow& row : open_) close(row.pieces);
    return std::move(rows_);
  }

 private:
  struct OpenRow {
    std::vector<Piece> pieces;
    int64_t used = 0;
  };

  static Piece piece(int64_t document, int64_t begin, int64_t length) {
    return {.document = document, .begin = static_cast<int32_t>(begin), .length = static_cast<int32_t>(length)};
  }

  void place(const Piece& piece) {
    auto row = std::find_if(open_.begin(), open_.end(),
                            [&](const OpenRow& open) { return open.used + piece.length <= sequence_length_; });
    if (row == open_.end()) {
      if (static_cast<int64_t>(open_.size()) == most_open_) close_fullest();
      row = open_.insert(open_.end(), OpenRow{});
    }
    row->pieces.push_back(piece);
    row->used += piece.length;
    if (row->used == sequence_length_) {
      close(row->pieces);
      open_.erase(row);
    }
  }

  void close_fullest() {
    const auto row = std::max_element(open_.begin(), open_.end(),
                                      [](const OpenRow& a, const OpenRow& b) { return a.used < b.used; });
    close(row->pieces);
    open_.erase(row);
  }

  void close(const std::vector<Piece>& pieces) {
    for (const Piece& piece : pieces) rows_.tokens += piece.length;
    rows_.pieces.insert(rows_.pieces.end(), pieces.begin(), pieces.end());
    rows_.row_begins.push_back(static_cast<int64_t>(rows_.pieces.size()));
  }

  int64_t sequence_length_;
  int64_t most_open_;
  PackedRows rows_;
  std::vector<OpenRow> open_;
};

}  // namespace

std::span<const Piece> PackedRows::row(int64_t index) const {
  const auto begin = static_cast<size_t>(row_begins[static_cast<size_t>(index)]);
  const auto end = static_cast<size_t>(row_begins[static_cast<size_t>(index) + 1]);
  return std::span(pieces).subspan(begin, end - begin);
}

PackedRows pack(const Documents& documents, std::span<const int64_t> order, int64_t sequence_length,
                int64_t open_rows) {
  MOE_CHECK(sequence_length > 0 && sequence_length <= std::numeric_limits<int32_t>::max() && open_rows > 0);
  Packer packer(sequence_length, open_rows);
  for (const int64_t document : order) {
    const int64_t length = documents.length(document);
    if (length > std::numeric_limits<int32_t>::max()) {
      fail("document {} has {} tokens, more than the {} that a row can count; split it", document, length,
           std::numeric_limits<int32_t>::max());
    }
    packer.add(document, length);
  }
  return packer.finish();
}

PackedRows pack_pairs(const Documents& documents, std::span<const int64_t> order, int64_t sequence_length) {
  constexpr int64_t kOpenRows = 256;
  Packer packer(sequence_length, kOpenRows);
  const auto length = [&](int64_t document) { return documents.length(document); };
  for (const int64_t pair : order) {
    const int64_t both = length(2 * pair) + length(2 * pair + 1);
    if (both > sequence_length) {
      fail(
          "pair {} has {} tokens in its two conversations, but a row has {} (data.sequence_length); use longer rows, "
          "or "
          "make the dataset with --max-tokens {}",
          pair, both, sequence_length, sequence_length);
    }
    packer.add(pair, both);
  }
  const PackedRows pairs = packer.finish();
  PackedRows rows{.pieces = {}, .row_begins = {0}, .tokens = pairs.tokens};
  for (int64_t row = 0; row < pairs.count(); ++row) {
    for (const Piece& piece : pairs.row(row)) {
      for (const int64_t document : {2 * piece.document, 2 * piece.document + 1}) {
        rows.pieces.push_back({.document = document, .begin = 0, .length = static_cast<int32_t>(length(document))});
      }
    }
    rows.row_begins.push_back(static_cast<int64_t>(rows.pieces.size()));
  }
  return rows;
}

}  // namespace moe
