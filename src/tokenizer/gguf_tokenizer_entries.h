#pragma once
/// A tokenizer as the metadata of a GGUF file.

#include <vector>

#include "base/file.h"
#include "formats/gguf_value.h"

namespace moe {

/// The tokenizer of a folder, or a tokenizer's file, for a model with `rows` ids; ids without a token become unused
/// tokens. Without the chat template. What the format cannot say is an error with its name.
std::vector<GgufEntry> gguf_tokenizer_entries(const fs::path& tokenizer, int64_t rows);

}  // namespace moe
