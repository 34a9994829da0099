#pragma once
/// The batches of a run: which tokens step k trains on, as a pure function of (documents, options, k).

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "data/batch.h"
#include "data/documents.h"
#include "data/mixture.h"
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
///
/// With several parts, each is packed, ordered and repeated by itself, and its weight says how many of the rows are its
/// (data/mixture.h); an epoch is then a part's own. Any number of threads may ask at once.
class BatchSource {
 public:
  struct Options {
    int64_t sequence_length;
    int64_t rows_per_step;
    uint64_t seed = 0;
    DataOrder order = DataOrder::shuffled_epochs;
    /// Of all documents, in their order; empty: one part.
    std::vector<DataPart> parts = {};
  };

  /// `documents` must outlive the source. Refuses documents, or a part, without any token. Order `once` has one part.
  BatchSource(const Documents& documents, Options options);

  const Options& options() const { return options_; }
  const Documents& documents() const { return documents_; }
  /// Of all parts together.
  int64_t rows_per_epoch() const;
  int64_t tokens_per_epoch() const;
  /// How often the first `steps` steps pass over a part: 1.5 is once and a half.
  double epochs(size_t part, int64_t steps) const;
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
  using Order = std::vector<int64_t>;
  /// The order of a part's rows in an epoch. The last one that was asked for is kept, which changes no result.
  class RowOrder {
   public:
    RowOrder(int64_t rows, uint64_t seed, uint64_t stream) : rows_(rows), seed_(seed), stream_(stream) {}
    std::shared_ptr<const Order> of(int64_t epoch);

   private:
    int64_t rows_;
    uint64_t seed_, stream_;
    std::mutex mutex_;
    int64_t epoch_ = -1;
    std::shared_ptr<const Order> order_;
  };
  struct PackedPart {
    PackedRows rows;
    std::unique_ptr<RowOrder> order;
  };

  bool ends_document(const Piece& piece) const;
  void fill_piece(Batch& batch, const Piece& piece, int64_t at) const;

  const Documents& documents_;
  Options options_;
  Mixture mixture_;
  std::vector<PackedPart> parts_;
};

}  // namespace moe
