#include "checkpoint/checksums.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <set>
#include <sys/stat.h>
#include <tuple>

#include "base/error.h"
#include "base/paths.h"
#include "formats/checksum.h"
#include "formats/json.h"

namespace moe {
namespace {

constexpr int64_t kVersion = 1;

using Sums = std::vector<WrittenFile>;

std::string text_of(uint32_t sum) { return fmt::format("{:08x}", sum); }

Sums read_sums(const fs::path& path) {
  const std::string where = path.string();
  const Json json = read_json(path);
  if (const int64_t version = json_int(json, "format_version", where); version != kVersion) {
    fail("{}: format_version is {}, expected {}; use the version of moe that wrote it", where, version, kVersion);
  }
  const Json& files = json_member(json, "crc32", where);
  if (!files.is_object()) fail("{}: \"crc32\" is {}, expected an object", where, json_kind(files));
  Sums sums;
  for (const auto& [name, value] : files.items()) {
    if (fs::path(name).filename() != fs::path(name)) fail("{}: it names {:?}, expected a file's name", where, name);
    const std::string text = json_string(files, name, where);
    uint32_t sum = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), sum, 16);
    if (error != std::errc() || text.size() != 8 || end != text.data() + text.size()) {
      fail("{}: {} is {}, expected eight hexadecimal digits; the file is damaged", where, name, json_shown(value));
    }
    sums.push_back({name, sum});
  }
  return sums;
}

// The state of a file that has been compared: while it stays, so do the bytes.
using FileState = std::tuple<dev_t, ino_t, off_t, int64_t, int64_t, int64_t, int64_t, uint32_t>;

FileState state_of(const fs::path& path, uint32_t sum) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail("cannot read {}: {}", path.string(), std::strerror(errno));
  return {status.st_dev,          status.st_ino,         status.st_size,         status.st_mtim.tv_sec,
          status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec, sum};
}

std::mutex compared_mutex;
std::set<FileState> compared;

bool was_compared(const FileState& state) {
  const std::lock_guard lock(compared_mutex);
  return compared.count(state) != 0;
}

void remember(const FileState& state) {
  const std::lock_guard lock(compared_mutex);
  compared.insert(state);
}

void check(const fs::path& folder, const WrittenFile& listed) {
  const fs::path path = folder / listed.name;
  if (!path_exists(path)) {
    fail("{} is missing, although {} lists it; use another checkpoint", path.string(), kChecksumFile);
  }
  const FileState state = state_of(path, listed.crc32);
  if (was_compared(state)) return;
  const uint32_t found = crc32_of(MappedFile(path).bytes());
  if (found != listed.crc32) {
    fail(
        "{} is damaged: the CRC-32 of its bytes is {}, and {} beside it says {}; use another checkpoint (if the file "
        "was "
        "changed on purpose, remove {})",
        path.string(), text_of(found), kChecksumFile, text_of(listed.crc32), kChecksumFile);
  }
  remember(state);
}

}  // namespace

void save_checksums(const fs::path& folder, const std::vector<WrittenFile>& written) {
  Sums sums = written;
  const auto is_written = [&](const std::string& name) {
    return std::any_of(written.begin(), written.end(), [&](const WrittenFile& file) { return file.name == name; });
  };
  for (const fs::path& path : folder_entries(folder)) {
    const std::string name = path.filename().string();
    if (is_folder(path) || is_written(name)) continue;
    sums.push_back({name, crc32_of(MappedFile(path).bytes())});
  }
  std::sort(sums.begin(), sums.end(), [](const WrittenFile& a, const WrittenFile& b) { return a.name < b.name; });
  nlohmann::ordered_json files = nlohmann::ordered_json::object();
  for (const WrittenFile& file : sums) files[file.name] = text_of(file.crc32);
  const nlohmann::ordered_json json = {{"format_version", kVersion}, {"crc32", files}};
  write_file(folder / kChecksumFile, json_text(json, 2) + "\n");
}

void check_checksums(const fs::path& folder) {
  const fs::path path = folder / kChecksumFile;
  if (!path_exists(path)) return;
  for (const WrittenFile& listed : read_sums(path)) check(folder, listed);
}

void check_checksums(const fs::path& folder, const std::vector<fs::path>& files) {
  const fs::path path = folder / kChecksumFile;
  if (!path_exists(path)) return;
  for (const WrittenFile& listed : read_sums(path)) {
    const bool asked = std::any_of(files.begin(), files.end(),
                                   [&](const fs::path& file) { return file.filename() == fs::path(listed.name); });
    if (asked) check(folder, listed);
  }
}

}  // namespace moe
