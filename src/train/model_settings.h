#pragma once
/// The part of a run file that describes the model and its routing. Mistakes are UsageErrors that name the key.

#include <functional>

#include "formats/toml.h"
#include "train/run_start.h"

namespace moe {

/// Sets run.model (the sizes of run.preset, the choices of run.method_name, and every key over them), its losses and
/// the kind of hash tables.
void read_model(Settings& settings, RunConfig& run, const std::function<int64_t()>& dataset_vocabulary,
                const RunStart& start);

/// Sets run.step.experts from the file that train.experts names, if the run trains experts.
void read_experts(Settings& settings, RunConfig& run, const RunStart& start);

/// The routing method and its settings as one printable line.
std::string method_text(const RunConfig& run);

/// Each loss coefficient with its value and source.
std::vector<std::string> coefficient_lines(const Settings& settings, const RunConfig& run);

}  // namespace moe
