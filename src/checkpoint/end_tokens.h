#pragma once
/// Which tokens end a text of a published model.

#include <cstdint>
#include <vector>

#include "base/file.h"

namespace moe {

/// The ids of `eos_token_id` in FOLDER/config.json and, where it exists, FOLDER/generation_config.json: a number or a
/// list in each. Distinct, in ascending order; a negative id, by which some files say "none", is left out.
std::vector<int32_t> read_end_tokens(const fs::path& folder);

}  // namespace moe
