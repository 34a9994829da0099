#pragma once
/// What a model card says about the run that made a model.

#include <string>

#include "base/fs.h"

namespace moe {

/// Markdown: the data by domain, the recipe, the losses by domain, the load of the experts. `checkpoint` is the folder
/// of a run's checkpoint ("runs/demo/step-100" or "runs/demo/latest"), whose run.toml and whose run's logs it reads. ""
/// for another folder. What is not there any more, a dataset for instance, is left out. No path of this machine is in
/// the text, only the last parts of folders' names.
std::string run_card(const fs::path& checkpoint);

}  // namespace moe
