#include "base/paths.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <sys/stat.h>

#include <unistd.h>

#include "base/error.h"

namespace moe {
namespace {

std::optional<struct stat> look_at(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return info;
  if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
  fail("cannot look at {}: {}", path.string(), std::strerror(errno));
}

}  // namespace

bool path_exists(const fs::path& path) { return look_at(path).has_value(); }

bool is_folder(const fs::path& path) {
  const auto info = look_at(path);
  return info && S_ISDIR(info->st_mode);
}

bool is_stream(const fs::path& path) {
  const auto info = look_at(path);
  return info && !S_ISREG(info->st_mode) && !S_ISDIR(info->st_mode);
}

uint64_t file_bytes(const fs::path& path) {
  const auto info = look_at(path);
  return info && S_ISREG(info->st_mode) ? static_cast<uint64_t>(info->st_size) : 0;
}

void check_readable(const fs::path& path) {
  const auto info = look_at(path);
  if (!info) fail("cannot open {}: there is no such file", path.string());
  if (S_ISDIR(info->st_mode)) fail("cannot read {}: it is a folder, expected a file", path.string());
  if (::access(path.c_str(), R_OK) != 0) fail("cannot open {}: {}", path.string(), std::strerror(errno));
}

std::vector<fs::path> folder_entries(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> entries;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) entries.push_back(entry->path());
  if (error) fail("cannot read the folder {}: {}", folder.string(), error.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool is_empty_folder(const fs::path& path) { return is_folder(path) && folder_entries(path).empty(); }

void remove_path(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail("cannot remove {}: {}", path.string(), error.message());
}

bool try_remove_path(const fs::path& path) noexcept {
  std::error_code error;
  fs::remove_all(path, error);
  return !error;
}

fs::path tidy_path(const fs::path& path) {
  std::string text = path.string();
  while (text.size() > 1 && (text.ends_with('/') || text.ends_with("/."))) text.pop_back();
  return text;
}

}  // namespace moe
