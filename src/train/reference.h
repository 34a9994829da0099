#pragma once
/// The log-probabilities of all answers under the model that a run of preferences began with. They are computed once,
/// before the first step, and kept in the run's folder (reference.json).

#include <functional>
#include <vector>

#include "infer/model_on_device.h"
#include "train/run_config.h"
#include "train/start_checks.h"

namespace moe {

struct Reference {
  std::vector<double> train, valid;  ///< by document; `valid` is empty without data.valid
};

/// With the weights of `runtime`. Allocates and frees the memory of an evaluation. `between` is called after each
/// batch; it may throw.
Reference compute_reference(const ModelOnDevice& runtime, const RunConfig& run, const TrainingData& data,
                            const std::function<void()>& between);

void save_reference(const fs::path& run_dir, const Reference& reference, const TrainingData& data);
/// An error if the file is missing, damaged or of other data.
Reference load_reference(const fs::path& run_dir, const TrainingData& data);

}  // namespace moe
