#pragma once
/// `moe train --find-rate`: short runs of the same run file at rising learning rates.

#include <string>
#include <vector>

#include "cli/device_option.h"

namespace moe {

struct FindRateOptions {
  std::string file;              ///< of the run
  std::vector<std::string> set;  ///< --set
  int64_t steps = 0;             ///< of each short run; 0: a tenth of the run's, from 50 to 500
  DeviceOptions device;
};

/// Trains from the same start at rates from an eighth of the run's to 16 times it, each twice the one before, until two
/// in a row are clearly worse than the best or diverge. Every short run completes its schedule. Prints a table and a
/// recommendation. Returns the exit status. Results are kept beside the run's folder, so that the same command
/// continues after a signal.
int find_rate(const FindRateOptions& options);

}  // namespace moe
