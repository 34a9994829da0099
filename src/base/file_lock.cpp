#include "base/file_lock.h"

#include <cerrno>
#include <cstring>
#include <sys/file.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"

namespace moe {

FileLock::FileLock(const fs::path& file) : descriptor_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) fail("cannot create {}: {}", file.string(), std::strerror(errno));
}

FileLock::~FileLock() { ::close(descriptor_); }

bool FileLock::try_lock() { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0; }

}  // namespace moe
