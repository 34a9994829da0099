#pragma once
/// Paths of results, which are checked before the work, and folders that are complete or absent.

#include "base/file.h"

namespace moe {

/// Refuses a path where no file can be written: a folder, a path that ends in a slash, or a parent that is missing, not
/// writable or full. Also removes what killed processes left beside it. Does not change existing files.
void check_output_file(const fs::path& path);

/// The same for a folder. Its parents may be missing, and it may exist.
void check_output_folder(const fs::path& path);

/// The same for a file in a folder that may not exist yet.
void check_output_file_in(const fs::path& folder, const std::string& name);

/// Refuses work that would write more to `path` than its disk has free.
void check_disk_space(const fs::path& path, int64_t bytes);

/// Writes a folder that is complete or absent. Files go to a temporary folder beside it, and commit() renames that
/// folder. Without commit() it is removed. For one thread at a time.
class FolderWriter {
 public:
  /// Creates the temporary folder and the target's parents. Refuses a target that another process is writing.
  explicit FolderWriter(const fs::path& target);
  ~FolderWriter();
  FolderWriter(const FolderWriter&) = delete;
  FolderWriter& operator=(const FolderWriter&) = delete;

  /// The folder to write to until commit().
  const fs::path& path() const { return temporary_; }
  const fs::path& target() const { return target_; }

  /// Puts the folder into place. Its files must be on the disk already, as FileWriter leaves them. If another process
  /// has created the target meanwhile, the folder stays under a free name beside it, and the error names it.
  void commit();
  /// The same, but replaces an earlier target, which is removed.
  void commit_over();

 private:
  void finish();

  fs::path target_;
  fs::path temporary_;
  int descriptor_ = -1;
};

}  // namespace moe
