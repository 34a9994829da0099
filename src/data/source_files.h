#pragma once
/// Finds the files that a user names: one file, a folder, or a pattern.

#include <map>
#include <string>
#include <vector>

#include "base/file.h"

namespace moe {

struct SourceFiles {
  std::vector<fs::path> files = {};
  /// The domain of all files, if they belong to one folder: its name. Empty for a single file, and for a pattern over
  /// several folders.
  std::string domain = {};
  /// For a folder: the number of files that cannot be read, by ending.
  std::map<std::string, int64_t> left_out = {};
};

/// Finds the files without opening them. `what` is
/// - a file, or "-" for standard input: itself, with any name;
/// - a folder: every file below it that data/reader.h can read, sorted by path. Names that begin with a dot are
///   skipped;
/// - a pattern with *, ? and [...], and ** for any folders: every file that it matches, sorted by path.
/// Refuses what finds no file, and Parquet files in a folder, which would be lost in silence.
SourceFiles find_source_files(const std::string& what);

}  // namespace moe
