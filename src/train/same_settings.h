#pragma once
/// Compares the settings of a kept run with those of a run by what they mean today.

#include "train/run_config.h"

namespace moe {

struct KeyDifference {
  std::string key;
  std::string kept, here;  ///< as TOML; "": there is no such key
};

/// The keys whose value in effect differs, except run.dir. `kept` is RunConfig::resolved of an earlier run, maybe of
/// an earlier version: it is read as a run file is today, so a key that it lacks has today's default. UsageError where
/// it cannot be read.
std::vector<KeyDifference> differing_keys(const std::string& kept, const RunConfig& run);

/// "train.steps is 5 there and 10 here, ...".
std::string differences_text(const std::vector<KeyDifference>& differences);

}  // namespace moe
