#pragma once
/// Files: reading by mmap, and the one writer through which every byte of this program reaches a disk.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/fs.h"

namespace moe {

/// A whole regular file, mapped read-only. Errors name the path and the system's reason. Movable. The mapping ends with
/// the object. Several threads may read it.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

/// The whole content of a file, a pipe or a device.
std::string read_file(const fs::path& path);

/// Writes a file that is complete or absent. Bytes go to a temporary file beside it (base/temporary.h). commit() syncs
/// that file to the disk and renames it. Without commit() it is removed. A pipe or a device is written directly. Use an
/// object on one thread at a time.
class FileWriter {
 public:
  explicit FileWriter(const fs::path& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t size() const { return size_; }
  void commit();

 private:
  void flush();
  void send(const char* data, size_t size);

  fs::path path_;
  fs::path temporary_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
  uint64_t sent_ = 0;   ///< bytes given to the system
  uint64_t begun_ = 0;  ///< bytes that the system was asked to write to the disk
  std::string buffer_;
};

/// Appends to a file that grows during a run, such as a log. Every write goes to the system at once.
/// For one thread at a time.
class FileAppender {
 public:
  /// Opens the file, or creates it.
  explicit FileAppender(const fs::path& path);
  ~FileAppender();
  FileAppender(const FileAppender&) = delete;
  FileAppender& operator=(const FileAppender&) = delete;

  void write(std::string_view text);

 private:
  fs::path path_;
  int descriptor_ = -1;
};

/// Writes a whole file, complete or absent.
void write_file(const fs::path& path, std::string_view text);

/// Makes the folder and its parents.
void make_folder(const fs::path& path);

/// Renames a finished folder or file into place and syncs the parent folder; `to` must not exist.
void rename_into_place(const fs::path& from, const fs::path& to);

/// For tests: the write that would exceed this many further bytes fails as on a full disk. A negative number turns this
/// off.
void fail_writes_after(int64_t bytes);

}  // namespace moe
