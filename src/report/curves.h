#pragma once
/// The log of a run as curves of a few hundred points, and the load of its experts over time.

#include <map>
#include <string>
#include <vector>

#include "formats/json.h"

namespace moe {

/// What was read of log.jsonl.
struct RunLog {
  Json about;  ///< the newest object about the run; null: there is none
  /// Columns of the same length, one row for some steps each: `step` (the last of them), `tokens`, `seconds` and
  /// `flops` so far, the means `loss`, `gradient_norm`, `learning_rate`, `tokens_per_second` and `worst_load`, and of
  /// the loss also `low` and `high`. What is not known or not finite is null.
  Json curves;
  /// {"steps": [B], "layers": [{"layer", "loads": [B][E]}]}: for each layer and time the load of every expert as a
  /// multiple of the mean. Null if no step has counts.
  Json loads;
  /// For some steps: tokens, seconds and FLOPs until then.
  std::map<int64_t, Json> spent;
  int64_t steps = 0;             ///< the last one
  double tokens_per_second = 0;  ///< median
  int64_t peak_bytes = 0;        ///< of the device
};

/// Reads log.jsonl. Columns have at most `points` rows, loads at most `times` times. `spent` gets the steps of
/// `wanted`. A last line without its end is left out, because a run may be writing it.
RunLog read_log(const fs::path& file, const std::vector<int64_t>& wanted, size_t points = 800, size_t times = 160);

}  // namespace moe
