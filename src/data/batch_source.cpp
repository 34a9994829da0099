#include "data/batch_source.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "data/order.h"

namespace moe {
namespace {

// The streams of the first part are those of a run with one part.
uint64_t stream_of(const char* name, size_t part) {
  return hash_name(part == 0 ? std::string(name) : fmt::format("{}.{}", name, part));
}

std::vector<int64_t> document_order(int64_t first, int64_t count, size_t part, const BatchSource::Options& options) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (options.order == DataOrder::shuffled_epochs) {
    order = shuffled(count, options.seed, stream_of("data.documents", part));
  }
  for (int64_t& document : order) document += first;
  return order;
}

std::vector<double> weights_of(const BatchSource::Options& options) {
  std::vector<double> weights;
  for (const DataPart& part : options.parts) weights.push_back(part.weight);
  return weights.empty() ? std::vector{1.0} : weights;
}

}  // namespace

std::shared_ptr<const BatchSource::Order> BatchSource::RowOrder::of(int64_t epoch) {
  const std::lock_guard guard(mutex_);
  if (epoch != epoch_) {
    order_ = std::make_shared<const Order>(shuffled(rows_, seed_, stream_ + static_cast<uint64_t>(epoch)));
    epoch_ = epoch;
  }
  return order_;
}

BatchSource::BatchSource(const Documents& documents, Options options)
    : documents_(documents), options_(std::move(options)), mixture_(weights_of(options_)) {
  MOE_CHECK(options_.sequence_length > 0 && options_.rows_per_step > 0);
  std::vector<DataPart> parts = options_.parts;
  if (parts.empty()) parts.push_back({.documents = documents.count(), .weight = 1});
  MOE_CHECK(options_.order != DataOrder::once || parts.size() == 1);
  int64_t first = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t together = options_.pairs ? 2 : 1;
    MOE_CHECK(parts[i].documents % together == 0);
    const auto order = document_order(first / together, parts[i].documents / together, i, options_);
    PackedRows rows = options_.pairs ? pack_pairs(documents, order, options_.sequence_length)
                                     : pack(documents, order, options_.sequence_length);
    if (rows.count() == 0) fail("the dataset has no tokens; make it from files that hold text");
    auto row_order = std::make_unique<RowOrder>(rows.count(), options_.seed, stream_of("data.rows", i));
    parts_.push_back({.rows = std::move(rows), .order = std::move(row_order)});
    first += parts[i].documents;
  }
  MOE_CHECK(first == documents.count());
}

int64_t BatchSource::rows_per_epoch() const {
  int64_t rows = 0;
  for (const PackedPart& part : parts_) rows += part.rows.count();
  return rows;
}

int64_t BatchSource::tokens_per_epoch() const {
  int64_t tokens = 0;
  for (const PackedPart& part : parts_) tokens += part.rows.tokens;
  return tokens;
}

double BatchSource::epochs(size_t part, int64_t steps) const {
  return static_cast<double>(mixture_.rows_of(part, steps * options_.rows_per_step)) /
         static_cast<double>(parts_[part].rows.count());
}

double BatchSource::most_epochs(int64_t steps) const {
  double most = 0;
  for (size_t part = 0; part < parts_.size(); ++part) most = std::max(most, epochs(part, steps));
  return most;
}

int64_t BatchSource::steps_per_epoch() const {
  return (rows_per_epoch() + options_.rows_per_step - 1) / options_.rows_per_step;
}

double BatchSource::fill() const {
  return static_cast<double>(tokens_per_epoch()) / static_cast<double>(rows_per_epoch() * options_.sequence_length);
}

int64_t BatchSource::rows_in_step(int64_t step) const {
  if (options_.order == DataOrder::shuffled_epochs) return options_.rows_per_step;
  return std::clamp<int64_t>(rows_per_epoch() - step * options_.rows_per_step, 0, options_.rows_per_step);
}

std::span<const Piece> BatchSource::row_of(int64_t step, int64_t row) const {
  const int64_t number = step * options_.rows_per_step + row;
  if (options_.order == DataOrder::once) return parts_[0].rows.row(number);
  const Mixture::Place place = mixture_.place_of(number);
  const PackedPart& part = parts_[place.part];
  const int64_t rows = part.rows.count();
  const auto order = part.order->of(place.row / rows);
  return part.rows.row((*order)[static_cast<size_t>(place.row % rows)]);
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

std::vector<uint8_t> BatchSource::marks_of_targets(const Piece& piece, int64_t targets) const {
  std::vector<uint8_t> marks(static_cast<size_t>(targets));
  documents_.copy_marks(piece.document, piece.begin + 1, targets, marks.data());
  return marks;
}

void BatchSource::fill_piece(Batch& batch, const Piece& piece, int64_t at) const {
  const auto begin = static_cast<size_t>(at);
  const auto length = static_cast<size_t>(piece.length);
  const int32_t targets = ends_document(piece) ? piece.length - 1 : piece.length;
  documents_.copy_tokens(piece.document, piece.begin, piece.length, &batch.tokens[begin]);
  documents_.copy_tokens(piece.document, piece.begin + 1, targets, &batch.targets[begin]);
  int64_t learned = targets;
  if (documents_.has_marks()) {
    const std::vector<uint8_t> marks = marks_of_targets(piece, targets);
    for (size_t i = 0; i < marks.size(); ++i) {
      if (marks[i] == 0) batch.targets[begin + i] = -1;
    }
    learned = std::count(marks.begin(), marks.end(), uint8_t{1});
  }
  std::iota(&batch.positions[begin], &batch.positions[begin] + length, 0);
  std::fill_n(&batch.segment_start[begin], length, static_cast<int32_t>(at));
  std::fill_n(&batch.segment_id[begin], length, static_cast<int32_t>(batch.segment_tokens.size()));
  std::fill_n(&batch.domain[begin], length, documents_.domain(piece.document));
  batch.segment_tokens.push_back(piece.length);
  if (!reference_.empty()) batch.reference.push_back(reference_[static_cast<size_t>(piece.document)]);
  batch.num_tokens += piece.length;
  batch.num_targets += learned;
}

BatchSource::Totals BatchSource::totals(int64_t step) const {
  Totals totals;
  for (int64_t row = 0; row < rows_in_step(step); ++row) {
    for (const Piece& piece : row_of(step, row)) {
      totals.tokens += piece.length;
      const int64_t targets = ends_document(piece) ? piece.length - 1 : piece.length;
      if (!documents_.has_marks()) {
        totals.targets += targets;
        continue;
      }
      const std::vector<uint8_t> marks = marks_of_targets(piece, targets);
      totals.targets += std::count(marks.begin(), marks.end(), uint8_t{1});
    }
  }
  return totals;
}

}  // namespace moe
