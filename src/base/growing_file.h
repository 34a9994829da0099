#pragma once
/// Files that grow line by line over a run, such as logs.

#include "base/file.h"

namespace moe {

/// Appends to a file; every write is handed to the system at once.
class GrowingFile {
 public:
  /// Opens (or creates) the file.
  explicit GrowingFile(const fs::path& path);
  ~GrowingFile();
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;

  /// Appends all of `text`; after an error the file is as it was before.
  void write(std::string_view text);
  /// Waits until all that was appended is on the disk; the file's length.
  int64_t sync();

 private:
  fs::path path_;
  FileAppender appender_;
  int descriptor_ = -1;
};

/// Cuts a file of lines to at most `most_bytes` and to whole lines, and returns the length that it then has. A file
/// that does not exist is made; a shorter one is not lengthened.
int64_t cut_lines(const fs::path& path, int64_t most_bytes);

}  // namespace moe
