#pragma once

#include <string>

#include "model/config.h"

namespace moe {

/// A model's routing in one line: K of E, and every choice that is not the default.
std::string routing_text(const ModelConfig& config);

}  // namespace moe
