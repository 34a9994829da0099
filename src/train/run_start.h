#pragma once
/// What a run begins with beside its data: the model of model.from, and the list of train.experts. A run that is
/// resumed has both in its checkpoint, so the files that the run file names need not be there any more.

#include <functional>
#include <optional>
#include <string>

#include "train/run_config.h"

namespace moe {

struct RunStart {
  /// The checkpoint that a run with this folder is resumed from; nothing: it begins. Empty: every run begins.
  std::function<std::optional<std::string>(const std::string& run_dir)> checkpoint = {};
  /// If it is given, a run that began with the same: its model and its list are taken, and no file is read.
  const RunConfig* like = nullptr;
};

}  // namespace moe
