#pragma once
/// Files and folders while they are written. They are named NAME.moe-PID-RANDOM.tmp, beside NAME. The writing process
/// holds a lock on them, which ends with the process in every case. So a temporary without a lock was left by a killed
/// process. Names of any other form are never treated as temporary.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fs.h"

namespace moe {

/// A new, empty, locked file or folder. `descriptor` holds the lock; the caller closes it. A signal that ends the
/// process removes it (base/signal_cleanup.h), until the caller has renamed or removed it and calls spare().
struct Temporary {
  fs::path path;
  int descriptor = -1;
};
Temporary make_temporary_file(const fs::path& target);
Temporary make_temporary_folder(const fs::path& target);

/// The path that a temporary is for, wherever in it the temporary's name is; any other path as it is.
fs::path without_temporary_name(const fs::path& path);

/// Removes the temporary files and folders in `folder` that no process has locked. Does nothing without permission.
void sweep_leftovers(const fs::path& folder) noexcept;

/// The process that is writing `target` now, if there is one.
std::optional<int64_t> writer_of(const fs::path& target);

/// Writes a folder's list of names to the disk.
void sync_folder(const fs::path& folder);
/// Writes the content of a file to the disk. Errors call the file `name`.
void sync_file(int descriptor, const fs::path& name);
/// rename(2).
void rename_path(const fs::path& from, const fs::path& to);
/// Exchanges the files of two names in one step. Returns false if the file system cannot.
bool exchange_paths(const fs::path& a, const fs::path& b);

/// For tests: every call of the three functions above is recorded here, as "sync NAME", "sync folder NAME" or "rename
/// NAME". NAME is the last part of the path, without the suffix of temporary names. Null turns this off.
void note_disk_calls(std::vector<std::string>* calls);

}  // namespace moe
