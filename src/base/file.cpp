#include "base/file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <sys/stat.h>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mapped_ranges.h"
#include "base/paths.h"
#include "base/platform.h"
#include "base/progress_count.h"
#include "base/signal_cleanup.h"
#include "base/temporary.h"

namespace moe {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
/// What read_file() takes at most. A file that is larger is not of the kind that is meant, and a pipe or a device may
/// never end.
constexpr size_t kMostOfFile = size_t{1} << 30, kMostOfStream = size_t{256} << 20;
/// After so many bytes the system is asked to write them to the disk, so that commit() need not wait for all of them.
constexpr uint64_t kBytesToBegin = uint64_t{4} << 20;
/// At most so many at once, so that a slow disk still shows that it goes on.
constexpr size_t kBytesOfWrite = size_t{16} << 20;
std::atomic<int64_t> bytes_until_failure{-1};

const char* reason() { return std::strerror(errno); }

// All bytes that go to a disk pass through this function.
void write_all(int descriptor, const char* data, size_t size, const fs::path& path) {
  if (const int64_t left = bytes_until_failure; left >= 0) {
    if (static_cast<int64_t>(size) > left) {
      errno = ENOSPC;
      fail("cannot write {}: {}; free some space or choose another folder", path.string(), reason());
    }
    bytes_until_failure = left - static_cast<int64_t>(size);
  }
  while (size > 0) {
    const ssize_t written = ::write(descriptor, data, std::min(size, kBytesOfWrite));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write {}: {}; free some space or choose another folder", path.string(), reason());
    data += written;
    size -= static_cast<size_t>(written);
    note_progress();
  }
}

int open_to_read(const fs::path& path, struct stat& info) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot open {}: {}", path.string(), reason());
  if (::fstat(descriptor, &info) != 0 || S_ISDIR(info.st_mode)) {
    ::close(descriptor);
    fail("cannot read {}: it is a folder, expected a file", path.string());
  }
  return descriptor;
}

}  // namespace

void fail_writes_after(int64_t bytes) { bytes_until_failure = bytes; }

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  struct stat info {};
  // A pipe has no size to map, and would look like an empty file. Opening it would wait for a writer.
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
    fail("cannot read {}: it is a pipe or a device, expected a file on a disk", path.string());
  }
  const int descriptor = open_to_read(path, info);
  size_ = static_cast<size_t>(info.st_size);
  if (size_ > 0) {
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data_ == MAP_FAILED) {
      data_ = nullptr;
      ::close(descriptor);
      fail("cannot map {}: {}", path.string(), reason());
    }
    remember_mapping(data_, size_, path);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  forget_mapping(data_);
  ::munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::string read_file(const fs::path& path) {
  struct stat info {};
  const int descriptor = open_to_read(path, info);
  const bool regular = S_ISREG(info.st_mode);
  const size_t most = regular ? kMostOfFile : kMostOfStream;
  const auto refuse_size = [&] {
    ::close(descriptor);
    fail("cannot read {}: it has more than {} MiB, which is too much for what it is meant to be{}", path.string(),
         most >> 20, regular ? "" : "; it is a pipe or a device, which may have no end");
  };
  if (regular && static_cast<uint64_t>(info.st_size) > most) refuse_size();
  std::string text, buffer(kBufferBytes, '\0');
  text.reserve(static_cast<size_t>(info.st_size));
  ssize_t got;
  while ((got = ::read(descriptor, buffer.data(), buffer.size())) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const std::string why = reason();
      ::close(descriptor);
      fail("cannot read {}: {}", path.string(), why);
    }
    text.append(buffer, 0, static_cast<size_t>(got));
    if (text.size() > most) refuse_size();
  }
  ::close(descriptor);
  return text;
}

FileWriter::FileWriter(const fs::path& path) : path_(path) {
  if (is_folder(path)) fail("cannot write {}: it is a folder, expected the name of a file", path.string());
  if (is_stream(path)) {
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail("cannot open {} for writing: {}", path.string(), reason());
    return;
  }
  std::error_code no_link;
  if (const fs::path target = fs::canonical(path, no_link); !no_link) path_ = target;  // a link stays one
  Temporary made = make_temporary_file(path_);
  temporary_ = std::move(made.path);
  descriptor_ = made.descriptor;
}

FileWriter::~FileWriter() {
  if (descriptor_ < 0) return;
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
    spare(temporary_);
  }
  ::close(descriptor_);
}

void FileWriter::write(const void* data, size_t size) {
  size_ += size;
  if (buffer_.size() + size > kBufferBytes) flush();
  if (size > kBufferBytes) {
    send(static_cast<const char*>(data), size);
  } else {
    buffer_.append(static_cast<const char*>(data), size);
  }
}

void FileWriter::flush() {
  send(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void FileWriter::send(const char* data, size_t size) {
  write_all(descriptor_, data, size, path_);
  sent_ += size;
  if (sent_ - begun_ < kBytesToBegin) return;
  begin_writeback(descriptor_, static_cast<int64_t>(begun_), static_cast<int64_t>(sent_ - begun_));
  begun_ = sent_;
}

void FileWriter::commit() {
  flush();
  if (!temporary_.empty()) {
    sync_file(descriptor_, temporary_);
    rename_path(temporary_, path_);
    spare(temporary_);
  }
  ::close(std::exchange(descriptor_, -1));
  if (!temporary_.empty()) sync_folder(path_.parent_path());
}

FileAppender::FileAppender(const fs::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("cannot open {} for appending: {}", path.string(), reason());
}

FileAppender::~FileAppender() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileAppender::write(std::string_view text) { write_all(descriptor_, text.data(), text.size(), path_); }

void write_file(const fs::path& path, std::string_view text) {
  FileWriter writer(path);
  writer.write(text);
  writer.commit();
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail("cannot make the folder {}: {}", path.string(), error.message());
}

void rename_into_place(const fs::path& from, const fs::path& to) {
  if (path_exists(to)) fail("cannot rename {} to {}: the latter exists", from.string(), to.string());
  rename_path(from, to);
  sync_folder(to.parent_path());
}

}  // namespace moe
