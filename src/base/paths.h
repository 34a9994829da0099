#pragma once
/// Questions about paths, and their removal. What the system refuses to answer or to do is one sentence that names the
/// path and the system's reason; nothing here throws anything else.

#include <cstdint>
#include <vector>

#include "base/file.h"

namespace moe {

/// False where there is nothing of that name; an error where that cannot be found out.
bool path_exists(const fs::path& path);
/// True for a folder or a link to one.
bool is_folder(const fs::path& path);
/// True for a pipe, a device or a socket: what takes bytes but is no file on a disk.
bool is_stream(const fs::path& path);
/// The bytes of a regular file; 0 for anything else and where there is nothing.
uint64_t file_bytes(const fs::path& path);
/// Refuses what cannot be opened for reading, and folders. Opens no pipe or device: that would take from its content.
void check_readable(const fs::path& path);

/// The paths of a folder's entries, sorted by their bytes.
std::vector<fs::path> folder_entries(const fs::path& folder);

bool is_empty_folder(const fs::path& path);

/// Removes a file, a link or a folder with all that is in it; nothing where there is nothing.
void remove_path(const fs::path& path);
/// The same where a failure changes nothing that matters; true when it is gone.
bool try_remove_path(const fs::path& path) noexcept;

/// The path without slashes and "/." at its end: "out/" names the same folder as "out".
fs::path tidy_path(const fs::path& path);

}  // namespace moe
