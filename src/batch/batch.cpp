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
