#include "base/output_path.h"

#include <cerrno>
#include <cstring>
#include <sys/statvfs.h>
#include <utility>

#include <unistd.h>

#include "base/error.h"
#include "base/paths.h"
#include "base/signal_cleanup.h"
#include "base/temporary.h"

namespace moe {
namespace {

/// Whether the kernel shows its state in this folder. For root, such a folder looks writable.
bool is_kernels(const fs::path& folder) {
  std::error_code error;
  const std::string real = fs::canonical(folder, error).string() + "/";
  return real.starts_with("/proc/") || real.starts_with("/sys/");
}

void check_folder_takes_files(const fs::path& folder, const fs::path& path) {
  const fs::path where = folder.empty() ? "." : folder;
  if (!path_exists(where)) {
    fail("cannot create {}: the folder {} does not exist; make it first", path.string(), where.string());
  }
  if (!is_folder(where)) fail("cannot create {}: {} is not a folder", path.string(), where.string());
  if (::access(where.c_str(), W_OK | X_OK) != 0) {
    fail("cannot create {}: the folder {} is not writable: {}", path.string(), where.string(), std::strerror(errno));
  }
  if (is_kernels(where))
    fail("cannot create {}: the folder {} belongs to the system and takes no files; choose another", path.string(),
         where.string());
  struct statvfs info {};
  if (::statvfs(where.c_str(), &info) == 0 && info.f_blocks > 0 && info.f_bavail == 0) {
    fail("cannot create {}: its disk has no space left; free some or choose another folder", path.string());
  }
  sweep_leftovers(where);
}

// The nearest folder above `path` that exists.
fs::path existing_parent(const fs::path& path) {
  fs::path parent = path.parent_path();
  while (!parent.empty() && !path_exists(parent)) {
    if (parent == parent.parent_path()) break;
    parent = parent.parent_path();
  }
  return parent;
}

fs::path free_name(const fs::path& target) {
  for (int number = 2;; ++number) {
    const fs::path path = fmt::format("{}-{}", target.string(), number);
    if (!path_exists(path)) return path;
  }
}

}  // namespace

void check_output_file(const fs::path& path) {
  if (path.empty()) fail_usage("the name of a file to write is empty; give it a name");
  if (is_folder(path)) fail("cannot write {}: it is a folder, expected the name of a file", path.string());
  if (!path.has_filename()) fail("cannot write {}: it ends in a slash, expected the name of a file", path.string());
  if (path_exists(path)) {
    if (::access(path.c_str(), W_OK) != 0) fail("cannot write {}: {}", path.string(), std::strerror(errno));
    if (is_stream(path)) return;  // nothing is made beside it
  }
  check_folder_takes_files(path.parent_path(), path);
}

void check_output_folder(const fs::path& path) {
  if (path.empty()) fail_usage("the name of a folder to write is empty; give it a name");
  const fs::path target = tidy_path(path);
  if (path_exists(target) && !is_folder(target)) {
    fail("cannot write the folder {}: there is a file of that name; choose another", target.string());
  }
  check_folder_takes_files(path_exists(target) ? target : existing_parent(target), target);
}

void check_output_file_in(const fs::path& folder, const std::string& name) {
  check_output_folder(folder);
  if (is_folder(folder)) check_output_file(folder / name);
}

void check_disk_space(const fs::path& path, int64_t bytes) {
  const fs::path folder = path_exists(path) ? path : existing_parent(path);
  struct statvfs info {};
  if (::statvfs(folder.empty() ? "." : folder.c_str(), &info) != 0 || info.f_blocks == 0) return;
  const double free = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  if (free >= static_cast<double>(bytes)) return;
  const bool large = bytes >= 100'000'000;
  const double unit = large ? 1e9 : 1e3;
  fail("{} needs {:.2f} {}, but its disk has {:.2f} {} free; free some or choose another folder",
       without_temporary_name(path).string(), static_cast<double>(bytes) / unit, large ? "GB" : "KB", free / unit,
       large ? "GB" : "KB");
}

FolderWriter::FolderWriter(const fs::path& target) : target_(tidy_path(target)) {
  if (const auto name = target_.filename(); name == "." || name == ".." || name.empty()) {
    fail_usage("{} cannot be put into place when it is complete; give the folder a name", target.string());
  }
  if (std::error_code error; fs::is_symlink(target_, error)) {  // the folder that it leads to is written
    const fs::path real = fs::canonical(target_, error);
    if (error) fail("{} is a link that leads nowhere; remove it or choose another folder", target_.string());
    target_ = real;
  }
  check_output_folder(target_);
  if (!target_.parent_path().empty()) make_folder(target_.parent_path());
  sweep_leftovers(target_.parent_path());
  if (const auto process = writer_of(target_)) {
    fail("{} is being written by another process ({}); wait for it or choose another folder", target_.string(),
         *process);
  }
  Temporary made = make_temporary_folder(target_);
  temporary_ = std::move(made.path);
  descriptor_ = made.descriptor;
}

FolderWriter::~FolderWriter() {
  if (!temporary_.empty()) {
    try_remove_path(temporary_);
    spare(temporary_);
  }
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FolderWriter::commit() {
  sync_folder(temporary_);
  if (!path_exists(target_) || is_empty_folder(target_)) {
    rename_path(temporary_, target_);
    return finish();
  }
  const fs::path kept = free_name(target_);
  rename_path(temporary_, kept);
  finish();
  fail("{} was created by another process meanwhile; the written data is complete and is now {}", target_.string(),
       kept.string());
}

void FolderWriter::commit_over() {
  sync_folder(temporary_);
  if (path_exists(target_) && exchange_paths(temporary_, target_)) {
    try_remove_path(temporary_);
    return finish();
  }
  // If a file system cannot exchange two names, the old folder is removed first.
  spare(temporary_);  // from here on it is the only one that there is
  remove_path(target_);
  rename_path(temporary_, target_);
  finish();
}

void FolderWriter::finish() {
  spare(temporary_);
  temporary_.clear();
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  sync_folder(target_.parent_path());
}

}  // namespace moe
