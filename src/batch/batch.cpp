#include "batch/batch.h"

#include "base/error.h"

namespace moe {

double Batch::total_weight() const {
  if (weights.empty()) return static_cast<double>(num_targets);
  MOE_CHECK(weights.size() == targets.size());
  double sum = 0;
  for (size_t i = 0; i < targets.size(); ++i) sum += targets[i] < 0 ? 0.0 : static_cast<double>(weights[i]);
  return sum;
}

Batch single_document(std::span<const int32_t> tokens) {
  Batch batch;
  const size_t count = tokens.size();
  batch.rows = 1;
  batch.sequence_length = static_cast<int64_t>(count);
  batch.tokens.assign(tokens.begin(), tokens.end());
  batch.targets.assign(count, -1);
  for (size_t i = 0; i + 1 < count; ++i) batch.targets[i] = tokens[i + 1];
  for (size_t i = 0; i < count; ++i) batch.positions.push_back(static_cast<int32_t>(i));
  batch.segment_start.assign(count, 0);
  batch.segment_id.assign(count, 0);
  batch.segment_tokens = {static_cast<int32_t>(count)};
  batch.domain.assign(count, 0);
  batch.num_targets = count > 0 ? static_cast<int64_t>(count) - 1 : 0;
  batch.num_tokens = static_cast<int64_t>(count);
  return batch;
}

Batch some_rows(const Batch& batch, std::span<const int64_t> rows) {
  Batch some;
  some.rows = static_cast<int64_t>(rows.size());
  some.sequence_length = batch.sequence_length;
  int32_t last_segment = -1;  // number in `batch` of the segment of the token before
  for (size_t row = 0; row < rows.size(); ++row) {
    const auto from = static_cast<size_t>(rows[row] * batch.sequence_length);
    const auto end = from + static_cast<size_t>(batch.sequence_length);
    const auto shift =
        static_cast<int32_t>(row * static_cast<size_t>(batch.sequence_length)) - static_cast<int32_t>(from);
    const auto copy = [&](const auto& all, auto& part) {
      if (all.empty()) return;
      part.insert(part.end(), all.begin() + static_cast<int64_t>(from), all.begin() + static_cast<int64_t>(end));
    };
    copy(batch.tokens, some.tokens);
    copy(batch.targets, some.targets);
    copy(batch.weights, some.weights);
    copy(batch.positions, some.positions);
    copy(batch.domain, some.domain);
    for (size_t t = from; t < end; ++t) {
      const int32_t segment = batch.segment_id[t];
      some.segment_start.push_back(segment < 0 ? -1 : batch.segment_start[t] + shift);
      if (segment >= 0 && segment != last_segment) {
        some.segment_tokens.push_back(batch.segment_tokens[static_cast<size_t>(segment)]);
        if (!batch.reference.empty()) some.reference.push_back(batch.reference[static_cast<size_t>(segment)]);
        last_segment = segment;
      }
      some.segment_id.push_back(segment < 0 ? -1 : static_cast<int32_t>(some.segment_tokens.size()) - 1);
      some.num_tokens += segment >= 0 ? 1 : 0;
      some.num_targets += batch.targets[t] >= 0 ? 1 : 0;
    }
  }
  return some;
}

// Without the tokens themselves: it allocates nothing in proportion to them and uploads nothing.
Batch placeholder_batch(int64_t tokens, int64_t row_length) {
  MOE_CHECK(row_length > 0 && tokens % row_length == 0);
  Batch batch;
  batch.rows = tokens / row_length;
  batch.sequence_length = row_length;
  batch.num_targets = batch.num_tokens = tokens;
  return batch;
}

}  // namespace moe
