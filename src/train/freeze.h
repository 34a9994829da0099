#pragma once
/// Parameters that a run does not train: those of train.freeze, and with train.parameters = "experts" all that the list
/// of experts does not name. They have no gradient and no optimiser state, and keep their bits.
///
/// A name of train.freeze stands for a parameter, or for all parameters whose names begin with it and a dot:
///   "embedding" (or "embed"), "norm" (the final norm), "head",
///   "layers.3", "layers.0-3.attention", "layers.*.experts.down", ...
/// After "layers." comes a layer, a range of layers, or * for all. "layers.*.router" includes biases and tables.

#include <string>
#include <vector>

#include "checkpoint/expert_list.h"
#include "model/parameters.h"

namespace moe {

/// parameter_table(config), in which the parameters of `names` are frozen. If the model has adapters, all of its other
/// parameters are frozen, too. With `list`, only what it names trains; of adapters, it decides about those of routed
/// experts alone. Throws an Error if a name stands for nothing
/// (the error lists what there is), or if nothing is left to train.
std::vector<Parameter> training_table(const ModelConfig& config, const std::vector<std::string>& names,
                                      const ExpertList* list = nullptr);

/// The elements that are trained, and those whose values stay because they are frozen.
int64_t trained_elements(const std::vector<Parameter>& table);
int64_t frozen_elements(const std::vector<Parameter>& table);

}  // namespace moe
