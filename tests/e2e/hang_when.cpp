// Loaded into the program by a test (LD_PRELOAD): lets the main thread of a rank hang between two steps of its work,
// while its other threads go on.
//
//   HANG_RANK   the rank, as RANK says it; rank 0 may have no RANK
//   HANG_WHEN   a path: it hangs at the first look at a clock after this path is there

#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/syscall.h>

#include <unistd.h>

namespace {

bool is_due() {
  const char* const wanted = std::getenv("HANG_RANK");
  const char* const when = std::getenv("HANG_WHEN");
  if (wanted == nullptr || when == nullptr || syscall(SYS_gettid) != getpid()) return false;
  const char* const rank = std::getenv("RANK");
  return std::strcmp(rank == nullptr ? "0" : rank, wanted) == 0 && access(when, F_OK) == 0;
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  while (is_due()) pause();
  return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
}
