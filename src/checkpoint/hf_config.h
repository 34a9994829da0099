#pragma once
/// Converts between ModelConfig and the config.json of the families in checkpoint/family.h.

#include "base/file.h"
#include "formats/json.h"
#include "model/config.h"

namespace moe {

/// Reads FOLDER/config.json. Every field that changes the mathematics is used or refused by name. A field that this
/// program does not know is refused, unless it is null or false.
ModelConfig read_hf_config(const fs::path& folder);
/// Errors call the document `name`.
ModelConfig parse_hf_config(const Json& json, const std::string& name);

/// With the family's own field names. `dtype` is the type of the weights beside it.
Json to_hf_config(const ModelConfig& config, DType dtype);

}  // namespace moe
