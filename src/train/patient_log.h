#pragma once
/// A log of a long run: a disk that is full for a while costs no line.

#include <string>

#include "base/growing_file.h"

namespace moe {

/// Appends lines. What cannot be written is kept in memory, with one warning, and written with the next line.
class PatientLog {
 public:
  /// Opens (or creates) the file.
  explicit PatientLog(const fs::path& path) : file_(path) {}

  void write(std::string_view line);
  /// Waits until every line is on the disk; the file's length. Throws Error where that cannot be.
  int64_t sync();

 private:
  GrowingFile file_;
  std::string waiting_;
};

}  // namespace moe
