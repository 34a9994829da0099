#pragma once
/// Where results go: paths that are checked before the work, and folders that are complete or absent.

#include "base/file.h"

namespace moe {

/// Refuses a path at which no file can be written: a folder, a slash at the end, a parent that is missing, not
/// writable or full. Also sweeps what killed processes left beside it. Files that exist are left alone.
void check_output_file(const fs::path& path);

/// The same for a folder, whose parents may be missing. It may exist.
void check_output_folder(const fs::path& path);

/// The same for a file of a folder that need not be there yet.
void check_output_file_in(const fs::path& folder, const std::string& name);

/// Writes a folder that is complete or absent: everything goes to a temporary folder beside it, and commit() renames
/// it. Without commit() the temporary folder is removed.
class FolderWriter {
 public:
  /// Makes the temporary folder and the target's parents. Refuses a target that another process is writing.
  explicit FolderWriter(const fs::path& target);
  ~FolderWriter();
  FolderWriter(const FolderWriter&) = delete;
  FolderWriter& operator=(const FolderWriter&) = delete;

  /// Where the files are written until commit().
  const fs::path& path() const { return temporary_; }
  const fs::path& target() const { return target_; }

  /// Puts the folder into place; its files must be on the disk already, as FileWriter leaves them. Where somebody else
  /// has made the target meanwhile, the folder is kept under a free name beside it, and the error says which.
  void commit();
  /// The same, in place of an earlier target, which is removed.
  void commit_over();

 private:
  void finish();

  fs::path target_;
  fs::path temporary_;
  int descriptor_ = -1;
};

}  // namespace moe
