#pragma once
/// Questions about paths, and the removal of files. Every failure is an Error with one sentence that names the path and
/// the system's reason; no other exception leaves these functions.

#include <cstdint>
#include <vector>

#include "base/fs.h"

namespace moe {

/// False if nothing has that name. Throws if the system cannot say.
bool path_exists(const fs::path& path);
/// True for a folder or a link to one.
bool is_folder(const fs::path& path);
/// True for a pipe, a device or a socket: something that accepts bytes and is not a file on a disk.
bool is_stream(const fs::path& path);
/// The bytes of a regular file; 0 for anything else, and if nothing is there.
uint64_t file_bytes(const fs::path& path);
/// Refuses a folder and what cannot be opened for reading. Does not open a pipe or a device, because that would take
/// bytes from it.
void check_readable(const fs::path& path);

/// The paths of a folder's entries, sorted by their bytes.
std::vector<fs::path> folder_entries(const fs::path& folder);

bool is_empty_folder(const fs::path& path);

/// Removes a file, a link, or a folder with its content. Does nothing if nothing is there.
void remove_path(const fs::path& path);
/// The same, for removals that may fail. Returns true if nothing is left.
bool try_remove_path(const fs::path& path) noexcept;

/// The path without slashes and "/." at its end: "out/" and "out" name the same folder.
fs::path tidy_path(const fs::path& path);

}  // namespace moe
