#pragma once
/// A lock on a file, which one process at a time holds. The system ends it with the process, in every case.

#include "base/fs.h"

namespace moe {

/// Use it on one thread at a time.
class FileLock {
 public:
  /// Opens the file, and creates it if it is missing; nobody removes it. Nothing is held yet.
  explicit FileLock(const fs::path& file);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  /// Takes the lock if it is free, and keeps it until the end of this object. False: another object has it, of this
  /// process or of another.
  bool try_lock();

 private:
  int descriptor_;
};

}  // namespace moe
