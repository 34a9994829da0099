#pragma once
/// A log of a long run. It loses no line if the disk is full for a while.

#include <string>

#include "base/growing_file.h"

namespace moe {

/// Appends lines. Lines that cannot be written are kept in memory, with one warning, and written with the next line.
/// Use it on one thread at a time.
class PatientLog {
 public:
  /// Opens the file, or creates it.
  explicit PatientLog(const fs::path& path) : file_(path) {}

  void write(std::string_view line);
  /// Waits until every line is on the disk, and returns the length of the file. Throws an Error if that is not
  /// possible.
  int64_t sync();

 private:
  GrowingFile file_;
  std::string waiting_;
};

}  // namespace moe
