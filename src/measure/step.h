#pragma once
/// Training steps on random tokens.

#include <map>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "ops/record.h"
#include "train/step.h"

namespace moe {

struct StepWork {
  ModelConfig model;
  StepConfig step;
  int steps = 0;
  int warm_up = 0;      ///< steps before the timed ones
  int64_t product = 0;  ///< size of the square product to compare with; 0: none
};

/// Seconds.
struct StepTime {
  double step = 0, gradients = 0, update = 0, cpu = 0;
};

struct StepTimes {
  std::vector<StepTime> times;                          ///< of each timed step
  StepReport report;                                    ///< of the last step
  std::map<std::string, RecordingBackend::Record> ops;  ///< of one more step, whose operations are timed one by one
  double product_rate = 0;                              ///< FLOP/s; 0: not measured
  int64_t peak_resident = 0;                            ///< bytes of the host
  int64_t allocated = 0;                                ///< bytes of the device

  double median(double StepTime::*value) const;
};

/// `plan` is that of the step. Shows a status line.
StepTimes measure_steps(const StepWork& work, const MemoryPlan& plan, Device& device, Backend& backend,
                        ThreadPool& pool);

}  // namespace moe
