#pragma once
/// Compares the settings of an earlier run with those of a run, by their meaning today.

#include "train/run_config.h"

namespace moe {

struct KeyDifference {
  std::string key;
  std::string kept, here;  ///< as TOML; "": the key does not exist there
};

/// The keys whose value in effect differs, except run.dir. `kept` is RunConfig::resolved of an earlier run, perhaps of
/// an earlier version. It is read like a run file of today, so a key that it lacks has today's default. Throws a
/// UsageError if it cannot be read.
std::vector<KeyDifference> differing_keys(const std::string& kept, const RunConfig& run);

/// "train.steps is 5 there and 10 here, ...".
std::string differences_text(const std::vector<KeyDifference>& differences);

}  // namespace moe
