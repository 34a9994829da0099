#include "base/temporary.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <random>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/paths.h"
#include "base/progress_count.h"
#include "base/signal_cleanup.h"

namespace moe {
namespace {

constexpr std::string_view kMark = ".moe-";
constexpr std::string_view kEnding = ".tmp";
constexpr size_t kRandomDigits = 16;
// A file's name has at most 255 bytes, and the pattern takes up to 42 of them.
constexpr size_t kMostOfName = 200;

std::mutex noted_mutex;
std::vector<std::string>* noted = nullptr;

struct Parsed {
  std::string name;  // what is being written
  int64_t process;
};

// The parts of a temporary name; nothing for any other name.
std::optional<Parsed> parse(const std::string& name) {
  const size_t mark = name.rfind(kMark);
  if (mark == std::string::npos || mark == 0 || !name.ends_with(kEnding)) return std::nullopt;
  const char* const end = name.data() + name.size() - kEnding.size();
  Parsed parsed{.name = name.substr(0, mark), .process = 0};
  const auto number = std::from_chars(name.data() + mark + kMark.size(), end, parsed.process);
  if (number.ec != std::errc() || number.ptr == end || *number.ptr != '-') return std::nullopt;
  uint64_t random = 0;
  const auto digits = std::from_chars(number.ptr + 1, end, random, 16);
  const bool whole = digits.ec == std::errc() && digits.ptr == end && end - number.ptr - 1 == kRandomDigits;
  return whole ? std::optional(parsed) : std::nullopt;
}

std::string shortened(const fs::path& target) { return target.filename().string().substr(0, kMostOfName); }

fs::path temporary_name(const fs::path& target) {
  std::random_device device;
  const uint64_t random = (uint64_t{device()} << 32) | device();
  return target.parent_path() / fmt::format("{}{}{}-{:016x}{}", shortened(target), kMark, ::getpid(), random, kEnding);
}

// Signals remove what will have this name.
fs::path doomed_name(const fs::path& target) {
  fs::path name = temporary_name(target);
  doom(name, temporary_name(target));
  return name;
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

// An open file or folder. It is locked if that was possible at once, and closed at the end.
class Lock {
 public:
  Lock(const fs::path& path, int how)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {
    if (descriptor_ >= 0) try_again(how);
  }
  ~Lock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void try_again(int how) {
    held_ = ::flock(descriptor_, how | LOCK_NB) == 0;
    taken_ = !held_ && errno == EWOULDBLOCK;
  }
  bool held() const { return held_; }
  bool taken_by_another() const { return taken_; }

 private:
  int descriptor_ = -1;
  bool held_ = false;
  bool taken_ = false;
};

// A process that makes or removes temporaries of a folder holds the folder's lock meanwhile. So no other process sees a
// temporary before it is locked itself. Inside a temporary folder, which its writer has locked, this is not needed.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) {
    std::error_code error;
    const fs::path real = fs::canonical(folder, error);
    if (error || parse(real.filename().string())) return;
    lock_.emplace(real, LOCK_EX);
    // Others hold it for a moment. A foreign program that holds it longer must not stop this one.
    for (int i = 0; i < 200 && lock_->taken_by_another(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      lock_->try_again(LOCK_EX);
    }
  }
  bool held() const { return lock_ && lock_->held(); }

 private:
  std::optional<Lock> lock_;
};

[[noreturn]] void fail_to_create(const fs::path& target, const fs::path& temporary, int error) {
  spare(temporary);
  fail("cannot create {}: {}", target.string(), std::strerror(error));
}

void note(const char* call, const fs::path& path) {
  const std::lock_guard guard(noted_mutex);
  if (noted == nullptr) return;
  const std::string name = path.filename().string();
  const auto parsed = parse(name);
  noted->push_back(std::string(call) + (parsed ? parsed->name : name));
}

}  // namespace

fs::path without_temporary_name(const fs::path& path) {
  fs::path whole;
  for (const fs::path& part : path) {
    const std::optional<Parsed> parsed = parse(part.string());
    whole /= parsed ? fs::path(parsed->name) : part;
  }
  return whole;
}

Temporary make_temporary_file(const fs::path& target) {
  const FolderLock lock(folder_of(target));
  Temporary made{.path = doomed_name(target)};
  made.descriptor = ::open(made.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (made.descriptor < 0) fail_to_create(target, made.path, errno);
  ::flock(made.descriptor, LOCK_EX | LOCK_NB);
  return made;
}

Temporary make_temporary_folder(const fs::path& target) {
  const FolderLock lock(folder_of(target));
  Temporary made{.path = doomed_name(target)};
  if (::mkdir(made.path.c_str(), 0755) != 0) fail_to_create(target, made.path, errno);
  made.descriptor = ::open(made.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (made.descriptor >= 0) ::flock(made.descriptor, LOCK_EX | LOCK_NB);
  return made;
}

void sweep_leftovers(const fs::path& folder) noexcept {
  try {
    const fs::path where = folder.empty() ? "." : folder;
    const FolderLock lock(where);
    if (!lock.held()) return;
    for (const fs::path& path : folder_entries(where)) {
      if (parse(path.filename().string()) && Lock(path, LOCK_EX).held()) try_remove_path(path);
    }
  } catch (const std::exception&) {  // what cannot be listed cannot be swept
  }
}

std::optional<int64_t> writer_of(const fs::path& target) {
  const fs::path folder = folder_of(target);
  if (!is_folder(folder)) return std::nullopt;
  for (const fs::path& path : folder_entries(folder)) {
    const auto parsed = parse(path.filename().string());
    if (!parsed || parsed->name != shortened(target)) continue;
    if (Lock(path, LOCK_SH).taken_by_another()) return parsed->process;
  }
  return std::nullopt;
}

void sync_folder(const fs::path& folder) {
  note("sync folder ", folder);
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  const SystemWait wait;
  const int status = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // Some file systems have no such call for folders.
  const bool unknown = error == EINVAL || error == ENOTSUP || error == ENOSYS || error == EROFS;
  if (status != 0 && !unknown) fail("cannot sync the folder {}: {}", folder.string(), std::strerror(error));
}

void sync_file(int descriptor, const fs::path& name) {
  note("sync ", name);
  const SystemWait wait;
  if (::fsync(descriptor) != 0) fail("cannot sync {}: {}", name.string(), std::strerror(errno));
}

void rename_path(const fs::path& from, const fs::path& to) {
  note("rename ", to);
  const SystemWait wait;
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  fail("cannot rename {} to {}: {}", from.string(), to.string(), std::strerror(errno));
}

bool exchange_paths(const fs::path& a, const fs::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) != 0) return false;
  note("rename ", b);
  return true;
}

void note_disk_calls(std::vector<std::string>* calls) {
  const std::lock_guard guard(noted_mutex);
  noted = calls;
}

}  // namespace moe
