#pragma once
/// The keys of a study file's section [study].

#include "study/study_file.h"
#include "train/run_keys.h"

namespace moe {

/// The section [study] of the file.
struct StudyFile {
  std::string dir = "runs/study";
  std::string title;
  std::vector<int64_t> seeds = {1};
  std::vector<std::string> systems;
  std::vector<std::string> grid;
  std::vector<std::string> where_possible;
  Budget budget = Budget::tokens;
  std::string reference;
  std::string baseline;
  std::vector<int64_t> mask_sixteenths;
  bool switches = false;
  std::vector<std::string> bars;
  bool keep_checkpoints = false;
};

std::span<const KeyRow<StudyFile>> study_keys();

}  // namespace moe
