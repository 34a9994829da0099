#include "base/free_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/resource.h>

#include <fmt/format.h>
#include <unistd.h>

namespace moe {
namespace {

/// One of so many free bytes stays free: other programs grow too, and the system needs some for files.
constexpr int64_t kReservedPart = 50;
constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

/// Nothing for "max" and for text that is not a number.
std::optional<int64_t> number_in(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return kUnlimited;
  if (error != std::errc() || end == text.data() || value < 0) return std::nullopt;
  return value;
}

std::optional<int64_t> first_number(const fs::path& path) {
  std::string word;
  std::ifstream(path) >> word;
  return number_in(word);
}

/// The number after the word `key` at the beginning of a line.
std::optional<int64_t> number_after(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t digits = line.find_first_not_of(" \t", key.size());
    if (digits == std::string::npos || digits == key.size()) continue;  // a longer word
    return number_in(std::string_view(line).substr(digits));
  }
  return std::nullopt;
}

/// What a limit of the process (ulimit) leaves, by a line of /proc/self/limits and what the process has of it.
int64_t left_by_limit(const fs::path& process, std::string_view limit_line, std::string_view used_line) {
  const auto limit = number_after(process / "limits", limit_line);
  const auto used_kib = number_after(process / "status", used_line);
  if (!limit || !used_kib) return kUnlimited;
  return std::max<int64_t>(0, *limit - *used_kib * 1024);
}

/// The file names of one version of control groups, and the lines of memory.stat.
struct GroupFiles {
  std::span<const char* const> limits;
  const char *usage, *inactive, *active;
};
constexpr const char* kLimits1[] = {"memory.limit_in_bytes"};
constexpr const char* kLimits2[] = {"memory.max", "memory.high"};
constexpr GroupFiles kVersion1{kLimits1, "memory.usage_in_bytes", "total_inactive_file", "total_active_file"};
constexpr GroupFiles kVersion2{kLimits2, "memory.current", "inactive_file", "active_file"};

int64_t left_in_group(const fs::path& folder, const GroupFiles& files) {
  int64_t limit = kUnlimited;
  for (const char* name : files.limits) limit = std::min(limit, first_number(folder / name).value_or(kUnlimited));
  const auto usage = first_number(folder / files.usage);
  if (limit == kUnlimited || !usage) return kUnlimited;
  const fs::path statistics = folder / "memory.stat";
  const int64_t droppable =
      number_after(statistics, files.inactive).value_or(0) + number_after(statistics, files.active).value_or(0);
  return std::max<int64_t>(0, limit - std::max<int64_t>(0, *usage - droppable));
}

/// Of the group `path` below `mount`, and of all groups around it. In a container the mount may be the group itself,
/// and the path may not be visible from inside.
int64_t left_in_groups(const fs::path& mount, const fs::path& path, const GroupFiles& files) {
  int64_t least = left_in_group(mount, files);
  fs::path folder = mount;
  for (const fs::path& part : path.relative_path()) {
    folder /= part;
    least = std::min(least, left_in_group(folder, files));
  }
  return least;
}

/// A line of /proc/self/cgroup: "0::/path" (version 2) or "7:cpu,memory:/path".
int64_t left_by_line(const std::string& line, const fs::path& mounts) {
  const size_t first = line.find(':'), second = line.find(':', first + 1);
  if (first == std::string::npos || second == std::string::npos) return kUnlimited;
  const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
  const fs::path path = line.substr(second + 1);
  if (controllers == ",,") return left_in_groups(mounts, path, kVersion2);
  if (controllers.find(",memory,") == std::string::npos) return kUnlimited;
  return left_in_groups(mounts / "memory", path, kVersion1);
}

}  // namespace

int64_t free_host_memory(const fs::path& root) {
  int64_t least = kUnlimited;
  if (const auto kib = number_after(root / "proc/meminfo", "MemAvailable:")) least = *kib * 1024;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    least = std::min(least, left_by_line(line, root / "sys/fs/cgroup"));
  }
  const fs::path process = root / "proc/self";
  least = std::min(least, left_by_limit(process, "Max address space", "VmSize:"));
  least = std::min(least, left_by_limit(process, "Max data size", "VmData:"));
  if (least < kUnlimited) return least;
  return static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

int64_t resident_bytes(const fs::path& root) {
  return number_after(root / "proc/self/status", "VmRSS:").value_or(0) * 1024;
}

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

int64_t usable_host_memory(const fs::path& root) {
  const int64_t left = free_host_memory(root);
  return resident_bytes(root) + left - left / kReservedPart;
}

}  // namespace moe
