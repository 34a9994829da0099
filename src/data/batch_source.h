#pragma once
/// The batches of a run: which tokens step k trains on, as a pure function of (documents, options, k).

#include <cstdint>
#include <vector>

#include "data/batch.h"
#include "data/documents.h"
#include "data/packing.h"

namespace moe {

enum class DataOrder {
  /// Documents packed in an order shuffled once by the seed, rows shuffled anew for every epoch, epochs without end.
  /// The
  /// documents of a row share it in every epoch: as none sees another, that ties them only to the same step.
  shuffled_epochs,
  /// Documents packed in their own order, each once; the last step may have fewer rows.
  once,
};

/// Cuts, packs and orders documents. Row number n of the run is row n % rows_per_epoch() of epoch n / rows_per_epoch();
/// step k takes rows [k * rows_per_step, (k + 1) * rows_per_step). So any step can be produced at once, and a step
/// number is all that resuming needs. A document cut by a row's end continues as a new segment, with positions from 0.
class BatchSource {
 public:
  struct Options {
    int64_t sequence_length;
    int64_t rows_per_step;
    uint64_t seed = 0;
    DataOrder order = DataOrder::shuffled_epochs;
  };

  /// `documents` must outlive the source. Refuses documents without any token.
  BatchSource(const Documents& documents, Options options);

  const Options& options() const { return options_; }
  const Documents& documents() const { return documents_; }
  int64_t rows_per_epoch() const { return rows_.count(); }
  int64_t tokens_per_epoch() const { return rows_.tokens; }
  /// Steps of the one pass, or a rounded-up epoch's.
  int64_t steps_per_epoch() const;
  /// The part of an epoch's rows that is no padding, in (0, 1].
  double fill() const;
  /// rows_per_step, or what is left at the end of a single pass (0 behind it).
  int64_t rows_in_step(int64_t step) const;

  /// Rows [first, first + count) of a step; indices in the batch are relative to it.
  Batch rows(int64_t step, int64_t first, int64_t count) const;

  /// Which parts of which documents a row of a step holds, in the order of its tokens: one segment of rows() each.
  std::span<const Piece> row_of(int64_t step, int64_t row) const;

  /// Token counts of a whole step, without its tokens: what a mean over the step divides by.
  struct Totals {
    int64_t tokens = 0;
    int64_t targets = 0;
  };
  Totals totals(int64_t step) const;

 private:
  bool ends_document(const Piece& piece) const;
  void fill_piece(Batch& batch, const Piece& piece, int64_t at) const;

  const Documents& documents_;
  Options options_;
  PackedRows rows_;
  /// The row order of one epoch, kept until another is asked for.
  mutable int64_t cached_epoch_ = -1;
  mutable std::vector<int64_t> row_order_;
};

}  // namespace moe
