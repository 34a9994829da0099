#pragma once
/// The systems of a study file: those that it names, and those of its grid.

#include "formats/toml.h"
#include "study/study_file.h"
#include "study/study_keys.h"

namespace moe {

/// The name of a system, and the keys that it changes.
struct System {
  std::string name;
  std::vector<std::string> words;  ///< KEY=VALUE
  std::string base = {};           ///< of study.systems; empty for the run file itself
  std::vector<GridValue> grid = {};
};

/// "NAME: WORD WORD". Another text is refused as a mistake of `key`.
System parse_system(const Settings& settings, const char* key, const std::string& text);

/// Every system with every combination of the grid's values; without a grid, the systems. A combination is named by its
/// values: "NAME-m2-s1", or "m2-s1" where the file has a grid alone. Names are different.
std::vector<System> read_systems(const Settings& settings, const StudyFile& file);

}  // namespace moe
