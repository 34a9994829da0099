#pragma once
/// The place of a model: a model folder, a GGUF file, or the folder of a run, which stands for its newest checkpoint.

#include <string>

#include "base/fs.h"

namespace moe {

/// `path` itself if it is the folder of a model or of an adapter (checkpoint/adapter_config.h). For a run folder: its
/// `latest`, or, if a copy has lost that link, the checkpoint with the most steps; an error if there is none yet.
/// Refuses the folder of a dataset or of a tokenizer alone. Any other path is returned unchanged.
std::string model_folder(const std::string& path);

/// True if `folder` has the files of a tokenizer.
bool has_tokenizer(const fs::path& folder);

}  // namespace moe
