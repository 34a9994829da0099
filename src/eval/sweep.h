#pragma once
/// Evaluates one text under several values of a routing switch, and without that switch: the paper's Figures 4 and 5
/// and section 4.5.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/loss.h"
#include "formats/json.h"
#include "infer/switches.h"

namespace moe {

/// One setting of a sweep.
struct SweepPoint {
  std::string name;              ///< name of the switch, as its option without "--"
  std::optional<int64_t> value;  ///< absent for drop-shared
  RoutingSwitches switches;

  std::string text() const;  ///< "mask-best=4"
};

/// The points of "experts-per-token=3,4,5", "mask-best=0,4" or "drop-shared", each in addition to the switches `base`.
/// A usage error for anything else.
std::vector<SweepPoint> parse_sweep(std::string_view text, const RoutingSwitches& base);

/// Refuses points that do not fit the model, and names the first one.
void check_sweep(const ModelConfig& model, const std::vector<SweepPoint>& points);

struct SweepResult {
  SweepPoint point;
  EvaluationResult result;
};

/// [{"switch", "value", "loss_change", "all": SCORE, "domains": {NAME: SCORE}}], with SCORE as in evaluation_json().
/// loss_change is relative to `unswitched`. The value of drop-shared is null.
Json sweep_json(const std::vector<SweepResult>& sweep, const EvaluationResult& unswitched);

/// A line for the model without the sweep, and one for each point: loss and its change, bits per byte.
std::string sweep_table(const std::vector<SweepResult>& sweep, const EvaluationResult& unswitched);

}  // namespace moe
