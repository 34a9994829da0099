#pragma once
/// The files that a user means: one, a folder of them, or a pattern.

#include <map>
#include <string>
#include <vector>

#include "base/file.h"

namespace moe {

struct SourceFiles {
  std::vector<fs::path> files = {};
  /// The label of all of them, where they are of one folder: its name. Empty for a single file, and for a pattern over
  /// several folders.
  std::string domain = {};
  /// Of a folder: how many of its files cannot be read, by ending.
  std::map<std::string, int64_t> left_out = {};
};

/// Finds them; nothing is opened. `what` is
/// - a file, or "-", standard input: itself, whatever its name;
/// - a folder: every file below it that data/reader.h can read, sorted by path; names that begin with a dot are passed
///   over;
/// - a pattern with *, ? and [...], and ** for any folders: every file that it matches, sorted by path.
/// Refuses what finds no file, and Parquet files in a folder, which would be lost in silence.
SourceFiles find_source_files(const std::string& what);

}  // namespace moe
