// Loaded into the program by a test (LD_PRELOAD): lets a call fail that changes a file, as a full or broken disk does.
//
//   FAIL_UNDER   a part of the paths whose calls count: open for writing, write, fsync, ftruncate, rename, symlink,
//   mkdir FAIL_AT      the number of the call that fails, from 1; 0: none FAIL_ERRNO   what it fails with: a number.
//   The call before a failing write writes only half of its bytes (ENOSPC) FAIL_ALWAYS  1: every later call fails too,
//   except those that make room FAIL_COUNT   a file that gets the number of calls when the program ends

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

namespace {

std::atomic<long> calls{0};
char failed[PATH_MAX + 32] = "none";  // the first call that failed

long number(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? 0 : std::atol(text);
}

bool watched(const char* path) {
  const char* const under = std::getenv("FAIL_UNDER");
  return under != nullptr && path != nullptr && std::strstr(path, under) != nullptr;
}

/// The path of an open file, in a buffer of each thread.
const char* path_of(int descriptor) {
  static thread_local char path[PATH_MAX];
  char link[64];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof(path) - 1);
  if (length <= 0) return nullptr;
  path[length] = 0;
  return path;
}
const char* path_of(const char* path) { return path; }

// Counts a call. True if it must fail; errno is set.
template <class Where>
bool fails(const char* name, Where where) {
  const int before = errno;
  const char* const path = path_of(where);
  errno = before;
  if (!watched(path)) return false;
  const long call = ++calls, at = number("FAIL_AT");
  if (at == 0 || call < at || (call > at && number("FAIL_ALWAYS") == 0)) return false;
  if (call == at) std::snprintf(failed, sizeof(failed), "%s %s", name, path);
  errno = static_cast<int>(number("FAIL_ERRNO"));
  return true;
}

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int open_with(const char* name, const char* path, int flags, mode_t mode) {
  if ((flags & O_ACCMODE) != O_RDONLY && fails(name, path)) return -1;
  return real<int(const char*, int, ...)>(name)(path, flags, mode);
}

__attribute__((destructor)) void tell() {
  const char* const file = std::getenv("FAIL_COUNT");
  if (file == nullptr) return;
  char text[sizeof(failed) + 32];
  const int size = std::snprintf(text, sizeof(text), "%ld %s\n", calls.load(), failed);
  const long opened = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (opened < 0) return;
  syscall(SYS_write, opened, text, size);
  syscall(SYS_close, opened);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_with("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_with("open64", path, flags, mode);
}
ssize_t write(int descriptor, const void* data, size_t size) {
  if (fails("write", descriptor)) return -1;
  // A disk that becomes full takes a part first.
  const bool next = number("FAIL_AT") > 0 && calls == number("FAIL_AT") - 1 && number("FAIL_ERRNO") == ENOSPC;
  if (next && size > 1 && watched(path_of(descriptor))) size /= 2;
  return real<ssize_t(int, const void*, size_t)>("write")(descriptor, data, size);
}
int fsync(int descriptor) { return fails("fsync", descriptor) ? -1 : real<int(int)>("fsync")(descriptor); }
int fdatasync(int descriptor) { return fails("fdatasync", descriptor) ? -1 : real<int(int)>("fdatasync")(descriptor); }
int ftruncate(int descriptor, off_t size) noexcept {
  return fails("ftruncate", descriptor) ? -1 : real<int(int, off_t)>("ftruncate")(descriptor, size);
}
int ftruncate64(int descriptor, off64_t size) noexcept {
  return fails("ftruncate64", descriptor) ? -1 : real<int(int, off64_t)>("ftruncate64")(descriptor, size);
}
int rename(const char* from, const char* to) noexcept {
  return fails("rename", to) ? -1 : real<int(const char*, const char*)>("rename")(from, to);
}
int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  if (fails("renameat2", to)) return -1;
  return real<int(int, const char*, int, const char*, unsigned)>("renameat2")(from_at, from, to_at, to, flags);
}
int symlink(const char* target, const char* path) noexcept {
  return fails("symlink", path) ? -1 : real<int(const char*, const char*)>("symlink")(target, path);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return fails("mkdir", path) ? -1 : real<int(const char*, mode_t)>("mkdir")(path, mode);
}

}  // extern "C"
