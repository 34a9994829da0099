#pragma once
/// The files of a checkpoint: can training continue from a folder? This is checked before anything is read into memory.

#include <vector>

#include "checkpoint/trainer_state.h"

namespace moe {

/// FOLDER/optimizer-00001-of-0000N.safetensors and so on, in order. An error names the first missing file.
std::vector<fs::path> optimizer_files(const fs::path& folder);

/// Examines every file that resuming needs: it must exist, be readable, have the length that its header says, and the
/// checksum that was kept with it (checkpoint/checksums.h). Throws an Error that names the first damaged file.
TrainerState check_checkpoint(const fs::path& folder);

}  // namespace moe
