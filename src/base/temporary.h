#pragma once
/// Files and folders while they are written: NAME.moe-PID-RANDOM.tmp beside NAME, locked by the process that writes.
/// The lock ends with the process, however it ends, so what nobody locks was left by a process that was killed. Only
/// names of this pattern are ever taken for temporary.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"

namespace moe {

/// A new, empty, locked file or folder; `descriptor` holds the lock and is closed by the caller.
struct Temporary {
  fs::path path;
  int descriptor = -1;
};
Temporary make_temporary_file(const fs::path& target);
Temporary make_temporary_folder(const fs::path& target);

/// Removes the temporary files and folders in `folder` that no process holds. Does nothing where it may not.
void sweep_leftovers(const fs::path& folder) noexcept;

/// The process that is writing `target` now, if one is.
std::optional<int64_t> writer_of(const fs::path& target);

/// Writes what is in a folder's list of names to the disk.
void sync_folder(const fs::path& folder);
/// Writes a file's content to the disk; `name` is what errors call it.
void sync_file(int descriptor, const fs::path& name);
/// rename(2).
void rename_path(const fs::path& from, const fs::path& to);
/// Exchanges what two names stand for, at once; false where the file system cannot.
bool exchange_paths(const fs::path& a, const fs::path& b);

/// For tests: every call of the three above is noted here, as "sync NAME", "sync folder NAME" or "rename NAME", where
/// NAME is the path's last part without the pattern of temporary names; null ends that.
void note_disk_calls(std::vector<std::string>* calls);

}  // namespace moe
