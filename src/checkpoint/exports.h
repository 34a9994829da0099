#pragma once
/// Which other programs `moe convert` can write a model for.

#include <string>

#include "base/file.h"
#include "model/config.h"

namespace moe {

/// The architecture in llama.cpp of a GGUF file with the model and its tokenizer (a folder or a file; empty: none). An
/// error says what such a file cannot express.
std::string gguf_export(const ModelConfig& config, const fs::path& tokenizer);

/// One line, for people: the class in `transformers` and the architecture in llama.cpp, or what in the model or in its
/// tokenizer llama.cpp cannot express.
std::string exports_text(const ModelConfig& config, const fs::path& tokenizer);

}  // namespace moe
