#pragma once
/// The tokens that end a text of a published model.

#include <cstdint>
#include <vector>

#include "base/file.h"

namespace moe {

/// Of a folder: the ids of `eos_token_id` in FOLDER/config.json and FOLDER/generation_config.json, if they exist. Each
/// has a number or a list. The ids are distinct and ascending. Negative ids, which mean "none" in some files, are left
/// out. Of a GGUF file: its ends of a text and of a turn.
std::vector<int32_t> read_end_tokens(const fs::path& folder);

}  // namespace moe
