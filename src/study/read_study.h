#pragma once
/// Reads a study file.

#include "base/fs.h"
#include "study/study_file.h"
#include "train/dataset_facts.h"

namespace moe {

/// Reads FILE: the sections of a run file, and [study] with `dir`, `title`, `seeds`, `systems` ("NAME: KEY=VALUE
/// KEY=VALUE"), `grid`, `where_possible`, `budget`, `reference`, `baseline`, `bars` ("NAME: SYSTEM SYSTEM"),
/// `mask_sixteenths`, `switches` and `keep_checkpoints`. `set` has the overrides of the command line; they may change
/// any key except those that the study sets itself (train.seed, run.dir). UsageErrors are those of a run file.
Study read_study(const fs::path& file, const std::vector<std::string>& set,
                 const DatasetVocabulary& vocabulary = dataset_vocabulary);

}  // namespace moe
