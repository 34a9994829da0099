#pragma once
/// --cache-type: the type of the cache of keys and values.

#include <string>

#include "cli/device_option.h"
#include "infer/model_on_device.h"

namespace moe {

void add_cache_option(CLI::App& command, std::string& type);

/// The type that `type` names, or without one default_cache_type() beside weights whose activations have the type
/// `activations`. A UsageError for a type that the device does not compute with.
DType parse_cache_option(const std::string& type, const Compute& compute, DType activations, bool weights_in_blocks);

}  // namespace moe
