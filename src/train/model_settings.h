#pragma once
/// The part of a run file that says what model is trained and by which routing: [model], [balance], and what [train]
/// has of routers. Mistakes are UsageErrors that name the key.

#include "train/run_config.h"

namespace moe {

/// Sets run.model (the preset's sizes and the method's choices where the file names them, and every key over them), the
/// losses that go with it and the kind of hash tables.
void read_model(Settings& settings, RunConfig& run, const std::function<int64_t()>& dataset_vocabulary);

/// Each key of [balance] over what goes with the model.
void read_balance(Settings& settings, RunConfig& run);

/// Hash tables and StableMoE's stages.
void read_router_training(Settings& settings, RunConfig& run);

/// Refuses keys of routing and balance that have no effect because the model has no routed experts.
void refuse_routing_of_dense(const Settings& settings, const RunConfig& run);

/// The method that model.method names and what it comes to, for people.
std::string method_text(const RunConfig& run, const std::string& method);

/// Each loss coefficient with its value and source.
std::vector<std::string> coefficient_lines(const Settings& settings, const RunConfig& run);

}  // namespace moe
