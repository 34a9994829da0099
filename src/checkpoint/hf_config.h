#pragma once
/// config.json of the families of checkpoint/family.h <-> ModelConfig.

#include "base/file.h"
#include "formats/json.h"
#include "model/config.h"

namespace moe {

/// Reads FOLDER/config.json. Every field that changes the mathematics is honoured or refused by name; a field that this
/// program does not know is refused unless it is null or false.
ModelConfig read_hf_config(const fs::path& folder);
/// `name` is what errors call the document.
ModelConfig parse_hf_config(const Json& json, const std::string& name);

/// The family's own field names; `dtype` is that of the weights beside it.
Json to_hf_config(const ModelConfig& config, DType dtype);

}  // namespace moe
