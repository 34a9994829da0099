#include "data/batch_source.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "data/order.h"

namespace moe {
namespace {

const uint64_t kDocumentStream = hash_name("data.documents");
const uint64_t kRowStream = hash_name("data.rows");

std::vector<int64_t> document_order(const Documents& documents, const BatchSource::Options& options) {
  if (options.order == DataOrder::shuffled_epochs) return shuffled(documents.count(), options.seed, kDocumentStream);
  std::vector<int64_t> order(static_cast<size_t>(documents.count()));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

}  // namespace

BatchSource::BatchSource(const Documents& documents, Options options) : documents_(documents), options_(options) {
  MOE_CHECK(options.sequence_length > 0 && options.rows_per_step > 0);
  rows_ = pack(documents, document_order(documents, options), options.sequence_length);
  if (rows_.count() == 0) fail("the dataset has no tokens; make it from files that hold text");
}

int64_t BatchSource::steps_per_epoch() const {
  return (rows_.count() + options_.rows_per_step - 1) / options_.rows_per_step;
}

double BatchSource::fill() const {
  return static_cast<double>(rows_.tokens) / static_cast<double>(rows_.count() * options_.sequence_length);
}

int64_t BatchSource::rows_in_step(int64_t step) const {
  if (options_.order == DataOrder::shuffled_epochs) return options_.rows_per_step;
  return std::clamp<int64_t>(rows_.count() - step * options_.rows_per_step, 0, options_.rows_per_step);
}

std::span<const Piece> BatchSource::row_of(int64_t step, int64_t row) const {
  const int64_t number = step * options_.rows_per_step + row;
  if (options_.order == DataOrder::once) return rows_.row(number);
  const int64_t epoch = number / rows_.count();
  if (epoch != cached_epoch_) {
    row_order_ = shuffled(rows_.count(), options_.seed, kRowStream + static_cast<uint64_t>(epoch));
    cached_epoch_ = epoch;
  }
  return rows_.row(row_order_[static_cast<size_t>(number % rows_.count())]);
}

bool BatchSource::ends_document(const Piece& piece) const {
  return piece.begin + piece.length == documents_.length(piece.document);
}

Batch BatchSource::rows(int64_t step, int64_t first, int64_t count) const {
  MOE_CHECK(step >= 0 && first >= 0 && count >= 0 && first + count <= rows_in_step(step));
  const auto entries = static_cast<size_t>(count * options_.sequence_length);
  if (entries > std::numeric_limits<int32_t>::max()) {
    fail("{} rows of {} tokens are too many for one microbatch; use fewer rows", count, options_.sequence_length);
  }
  Batch batch{.rows = count,
              .sequence_length = options_.sequence_length,
              .tokens = std::vector<int32_t>(entries, 0),
              .targets = std::vector<int32_t>(entries, -1),
              .positions = std::vector<int32_t>(entries, 0),
              .segment_start = std::vector<int32_t>(entries, -1),
              .segment_id = std::vector<int32_t>(entries, -1),
              .domain = std::vector<int32_t>(entries, -1),
              .segment_tokens = {}};
  for (int64_t row = 0; row < count; ++row) {
    int64_t at = row * options_.sequence_length;
    for (const Piece& piece : row_of(step, first + row)) {
      fill_piece(batch, piece, at);
      at += piece.length;
    }
  }
  return batch;
}

void BatchSource::fill_piece(Batch& batch, const Piece& piece, int64_t at) const {
  const auto begin = static_cast<size_t>(at);
  const auto length = static_cast<size_t>(piece.length);
  const int32_t targets = ends_document(piece) ? piece.length - 1 : piece.length;
  documents_.copy_tokens(piece.document, piece.begin, piece.length, &batch.tokens[begin]);
  documents_.copy_tokens(piece.document, piece.begin + 1, targets, &batch.targets[begin]);
  std::iota(&batch.positions[begin], &batch.positions[begin] + length, 0);
  std::fill_n(&batch.segment_start[begin], length, static_cast<int32_t>(at));
  std::fill_n(&batch.segment_id[begin], length, static_cast<int32_t>(batch.segment_tokens.size()));
  std::fill_n(&batch.domain[begin], length, documents_.domain(piece.document));
  batch.segment_tokens.push_back(piece.length);
  batch.num_tokens += piece.length;
  batch.num_targets += targets;
}

BatchSource::Totals BatchSource::totals(int64_t step) const {
  Totals totals;
  for (int64_t row = 0; row < rows_in_step(step); ++row) {
    for (const Piece& piece : row_of(step, row)) {
      totals.tokens += piece.length;
      totals.targets += ends_document(piece) ? piece.length - 1 : piece.length;
    }
  }
  return totals;
}

}  // namespace moe
