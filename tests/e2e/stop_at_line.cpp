// Loaded into the program by a test (LD_PRELOAD): raises a signal right after the program has written a given line, so
// that no test depends on how fast a run is.
//
//   STOP_SIGNAL  a number
//   STOP_FILE    the end of a file's path, or STOP_PART: any part of it, and
//   STOP_LINE    the number of lines written to it by this process, from 1; or
//   STOP_TEXT    what a line of standard error, which must be a file, holds

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/syscall.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

namespace {

bool is_watched(int descriptor) {
  const char* const wanted = std::getenv("STOP_FILE");
  const char* const part = std::getenv("STOP_PART");
  if (wanted == nullptr && part == nullptr) return false;
  char link[64] = "/proc/self/fd/", path[PATH_MAX];
  size_t end = std::strlen(link);
  char digits[16];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + descriptor % 10);
    descriptor /= 10;
  } while (descriptor > 0);
  while (count > 0) link[end++] = digits[--count];
  link[end] = 0;
  const ssize_t length = readlink(link, path, sizeof(path));
  if (part != nullptr) {
    return length > 0 && memmem(path, static_cast<size_t>(length), part, std::strlen(part)) != nullptr;
  }
  const auto size = static_cast<ssize_t>(std::strlen(wanted));
  return length >= size && std::memcmp(path + length - size, wanted, static_cast<size_t>(size)) == 0;
}

long lines = 0;

void stop() { raise(std::atoi(std::getenv("STOP_SIGNAL"))); }

// The last line of standard error.
std::string last_said() {
  const int file = open("/proc/self/fd/2", O_RDONLY | O_CLOEXEC);
  char text[1024];
  const off_t end = lseek(file, 0, SEEK_END), begin = end < 1024 ? 0 : end - 1024;
  const ssize_t got = pread(file, text, static_cast<size_t>(end - begin), begin);
  close(file);
  std::string said(text, got > 0 ? static_cast<size_t>(got) : 0);
  while (!said.empty() && said.back() == '\n') said.pop_back();
  return said.substr(said.rfind('\n') + 1);
}

}  // namespace

extern "C" ssize_t write(int descriptor, const void* data, size_t size) {
  const long written = syscall(SYS_write, descriptor, data, size);
  if (written <= 0 || !is_watched(descriptor)) return written;
  const long line = std::atol(std::getenv("STOP_LINE"));
  for (long i = 0; i < written; ++i) {
    if (static_cast<const char*>(data)[i] == '\n' && ++lines == line) stop();
  }
  return written;
}

extern "C" int fflush(FILE* stream) {
  static const auto flush = reinterpret_cast<int (*)(FILE*)>(dlsym(RTLD_NEXT, "fflush"));
  static bool stopped = false;
  const int result = flush(stream);
  const char* const wanted = std::getenv("STOP_TEXT");
  if (stream != stderr || stopped || wanted == nullptr || last_said().find(wanted) == std::string::npos) return result;
  stopped = true;
  stop();
  return result;
}
