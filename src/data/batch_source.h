#pragma once
/// The batches of a run: the tokens of step k, as a pure function of (documents, options, k).

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "batch/batch.h"
#include "data/documents.h"
#include "data/mixture.h"
#include "data/packing.h"

namespace moe {

enum class DataOrder {
  /// Documents are packed in one order that the seed shuffles once. Rows are shuffled again for every epoch. There is
  /// no last epoch. The documents of a row stay together in every epoch; they do not see each other, so this only puts
  /// them into the same step.
  shuffled_epochs,
  /// Documents are packed in their own order, each once. The last step may have fewer rows.
  once,
};

/// Cuts, packs and orders documents. Row number n of the run is row n % rows_per_epoch() of epoch n / rows_per_epoch().
/// Step k takes rows [k * rows_per_step, (k + 1) * rows_per_step). So any step can be made at once, and resuming needs
/// only the number of a step. A document that is cut by the end of a row continues as a new segment, with positions
/// from 0. A token that is only read (Documents::copy_marks) is a target of nothing.
///
/// If there are several parts, each is packed, ordered and repeated separately. Its weight decides how many rows come
/// from it (data/mixture.h). Each part then has epochs of its own. Any number of threads may use one object.
class BatchSource {
 public:
  struct Options {
    int64_t sequence_length;
    int64_t rows_per_step;
    uint64_t seed = 0;
    DataOrder order = DataOrder::shuffled_epochs;
    /// All documents, in their order; empty: one part.
    std::vector<DataPart> parts = {};
    /// Documents 2 i and 2 i + 1 are a pair, which stays in one row.
    bool pairs = false;
  };

  /// `documents` must outlive the source. Refuses documents without tokens, and a part without tokens. The order `once`
  /// has one part.
  BatchSource(const Documents& documents, Options options);

  /// For each document, what Batch::reference has of it. Set it before the first batch.
  void set_reference(std::vector<double> reference) { reference_ = std::move(reference); }

  const Options& options() const { return options_; }
  const Documents& documents() const { return documents_; }
  /// The number over all parts.
  int64_t rows_per_epoch() const;
  int64_t tokens_per_epoch() const;
  /// The number of passes over a part in the first `steps` steps; may be a fraction, such as 1.5.
  double epochs(size_t part, int64_t steps) const;
  /// The same, of the part that is read most often.
  double most_epochs(int64_t steps) const;
  /// The steps of the single pass, or of one epoch, rounded up.
  int64_t steps_per_epoch() const;
  /// The fraction of an epoch's rows that is not padding, in (0, 1].
  double fill() const;
  /// rows_per_step, or the rest at the end of a single pass (0 after it).
  int64_t rows_in_step(int64_t step) const;

  /// Rows [first, first + count) of a step; indices in the batch are relative to it.
  Batch rows(int64_t step, int64_t first, int64_t count) const;

  /// The pieces of documents in a row of a step, in the order of its tokens. Each is one segment of rows().
  std::span<const Piece> row_of(int64_t step, int64_t row) const;

  /// The token counts of a whole step, without its tokens. A mean over the step is divided by them.
  struct Totals {
    int64_t tokens = 0;
    int64_t targets = 0;
  };
  Totals totals(int64_t step) const;

 private:
  using Order = std::vector<int64_t>;
  /// The order of a part's rows in an epoch. The last one is cached, which changes no result.
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
  /// Documents::copy_marks of the first `targets` targets of a piece.
  std::vector<uint8_t> marks_of_targets(const Piece& piece, int64_t targets) const;
  void fill_piece(Batch& batch, const Piece& piece, int64_t at) const;

  const Documents& documents_;
  Options options_;
  Mixture mixture_;
  std::vector<PackedPart> parts_;
  std::vector<double> reference_;
};

}  // namespace moe
