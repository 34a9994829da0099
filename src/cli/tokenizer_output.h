#pragma once
/// A folder that receives a new tokenizer.

#include "base/file.h"

namespace moe {

/// Refuses a folder that cannot be written, and one with another tokenizer: a file that is left beside a new
/// tokenizer.json would change its ids.
void check_tokenizer_output(const fs::path& folder);

}  // namespace moe
