#pragma once
/// A checkpoint's files as a whole: whether training can go on from a folder, before anything is read into memory.

#include <vector>

#include "checkpoint/trainer_state.h"

namespace moe {

/// FOLDER/optimizer-00001-of-0000N.safetensors and so on, in order; an error names the first of the N that is missing.
std::vector<fs::path> optimizer_files(const fs::path& folder);

/// Looks at every file that resuming needs: that it is there, that it can be read and that it has the length that it
/// says itself. Not at the weights. Throws Error, naming the first file that is damaged.
TrainerState check_checkpoint(const fs::path& folder);

}  // namespace moe
