#pragma once
/// Files that grow line by line during a run, such as logs.

#include "base/file.h"

namespace moe {

/// Appends to a file. Every write goes to the system at once. Use an object on one thread at a time.
class GrowingFile {
 public:
  /// Opens the file, or creates it.
  explicit GrowingFile(const fs::path& path);
  ~GrowingFile();
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;

  /// Appends all of `text`. After an error the file is as before.
  void write(std::string_view text);
  /// Waits until all appended bytes are on the disk. Returns the length of the file.
  int64_t sync();

 private:
  fs::path path_;
  FileAppender appender_;
  int descriptor_ = -1;
};

/// Cuts a file to at most `most_bytes` and to whole lines, and returns its new length. Creates a file that does not
/// exist. Never makes a file longer.
int64_t cut_lines(const fs::path& path, int64_t most_bytes);

}  // namespace moe
