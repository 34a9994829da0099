#pragma once
/// Lets `transformers` load models whose class it does not have: a Python file beside the weights, and the fields of
/// config.json that name it.

#include <string_view>

#include "formats/json.h"
#include "model/config.h"

namespace moe {

/// src/checkpoint/hub/modeling_moe.py.
extern const std::string_view kModelingFile;

/// True if `transformers` needs kModelingFile for the model: of our own class and of DeepSeekMoE's.
bool needs_modeling_file(const ModelConfig& config);

/// The field auto_map of config.json for a folder that has kModelingFile as modeling_moe.py.
Json auto_map(const Json& hf_config);

}  // namespace moe
