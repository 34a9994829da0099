#pragma once
/// Reads tests/golden (its README.md describes the files).

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "formats/json.h"
#include "formats/safetensors.h"
#include "tests/support/tiny_model.h"

namespace moe {

/// In the sources that the test was built from, or in those that the environment names: tests may run on another
/// machine.
inline fs::path golden_folder() {
  const char* moved = std::getenv("MOE_SOURCE_DIR");
  return fs::path(moved ? moved : MOE_SOURCE_DIR) / "tests/golden";
}

inline std::vector<int32_t> integers(const SafetensorsFile& file, const std::string& name, int64_t begin = 0,
                                     int64_t count = -1) {
  const SafetensorsTensor* tensor = file.find(name);
  if (tensor == nullptr) fail("golden tensor {} is missing", name);
  const auto* data = reinterpret_cast<const int32_t*>(tensor->data);
  return {data + begin, data + (count < 0 ? tensor->elements() : begin + count)};
}

// A batch from stored tokens, targets and segment starts (flat indices from `first` on).
inline Batch golden_batch(const SafetensorsFile& file, int64_t rows, int64_t length, int64_t first = 0) {
  const int64_t count = rows * length;
  Batch batch{.rows = rows,
              .sequence_length = length,
              .tokens = integers(file, "input.tokens", first, count),
              .targets = integers(file, "input.targets", first, count),
              .positions = {},
              .segment_start = integers(file, "input.segment_start", first, count),
              .segment_id = {},
              .domain = std::vector<int32_t>(static_cast<size_t>(count), 0)};
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const int32_t start = batch.segment_start[i];
    batch.num_targets += batch.targets[i] >= 0 ? 1 : 0;
    batch.positions.push_back(start < 0 ? 0 : static_cast<int32_t>(i) - start);
    if (start >= 0 && start == static_cast<int32_t>(i)) batch.segment_tokens.push_back(0);
    batch.segment_id.push_back(start < 0 ? -1 : static_cast<int32_t>(batch.segment_tokens.size()) - 1);
    if (start < 0) continue;
    ++batch.segment_tokens.back();
    ++batch.num_tokens;
  }
  return batch;
}

/// Largest |found - expected| / largest |expected|; NaN if found has a NaN.
inline double relative_error(const float* found, const SafetensorsTensor& expected) {
  const auto* reference = reinterpret_cast<const float*>(expected.data);
  double largest_difference = 0;
  double largest = 0;
  for (int64_t i = 0; i < expected.elements(); ++i) {
    const double difference = std::fabs(static_cast<double>(found[i]) - static_cast<double>(reference[i]));
    if (!(difference <= largest_difference)) largest_difference = difference;  // NaN stays
    largest = std::max(largest, std::fabs(static_cast<double>(reference[i])));
  }
  return largest > 0 ? largest_difference / largest : largest_difference;
}

}  // namespace moe
