#pragma once
/// Which other programs `moe convert` can write a model for.

#include <string>

#include "model/config.h"

namespace moe {

/// One line, for people: the class in `transformers` and the architecture in llama.cpp, or the setting that llama.cpp
/// cannot express.
std::string exports_text(const ModelConfig& config);

}  // namespace moe
