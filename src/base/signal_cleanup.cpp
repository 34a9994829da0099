#include "base/signal_cleanup.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/syscall.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/handler_list.h"

namespace moe {

namespace {

struct DoomedEntry {
  enum State { unused, changing, doomed };

  std::atomic<int> state{changing};  // the names are written while it is `changing` only
  char path[PATH_MAX];
  char aside[PATH_MAX];
  DoomedEntry* next = nullptr;
};

constexpr std::array kEndingSignals{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGXCPU};
constexpr int kMostLevels = 16;
constexpr int kAttempts = 8;

HandlerList<DoomedEntry> entries;
std::atomic_flag ending = ATOMIC_FLAG_INIT;

// opendir() and std::filesystem allocate memory, which a handler must not do.
void remove_content(int folder, int level) noexcept {
  alignas(dirent64) std::array<char, 4096> buffer;
  for (long got; (got = ::syscall(SYS_getdents64, folder, buffer.data(), buffer.size())) > 0;) {
    for (long at = 0; at < got;) {
      const auto* const found = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += found->d_reclen;
      const char* const name = found->d_name;
      if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
      if (::unlinkat(folder, name, 0) == 0 || level == kMostLevels) continue;
      const int inner = ::openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (inner < 0) continue;
      remove_content(inner, level + 1);
      ::close(inner);
      ::unlinkat(folder, name, AT_REMOVEDIR);
    }
  }
}

void remove_now(const char* path) noexcept {
  if (::unlink(path) == 0) return;
  const int folder = ::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return;
  // Entries may be skipped while others are removed, and another thread may be adding a last file.
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ::lseek(folder, 0, SEEK_SET);
    remove_content(folder, 0);
    if (::rmdir(path) == 0 || errno != ENOTEMPTY) break;
  }
  ::close(folder);
}

}  // namespace

void doom(const fs::path& path, const fs::path& aside) {
  if (path.native().size() >= PATH_MAX || aside.native().size() >= PATH_MAX) return;  // nothing can have such a name
  DoomedEntry* const entry = entries.take();
  std::strcpy(entry->path, path.c_str());
  std::strcpy(entry->aside, aside.c_str());
  entry->state = DoomedEntry::doomed;
}

void spare(const fs::path& path) noexcept {
  for (DoomedEntry* entry = entries.first(); entry != nullptr; entry = entry->next) {
    if (entry->state == DoomedEntry::doomed && path.native() == entry->path) entry->state = DoomedEntry::unused;
  }
}

namespace {

void remove_doomed() noexcept {
  // One thread removes. If another one gets a signal too, it waits for the end of the process.
  while (ending.test_and_set()) ::pause();
  for (DoomedEntry* entry = entries.first(); entry != nullptr; entry = entry->next) {
    if (entry->state != DoomedEntry::doomed) continue;
    if (::rename(entry->path, entry->aside) == 0) {
      remove_now(entry->aside);
    } else if (errno != ENOENT) {
      remove_now(entry->path);
    }
  }
}

}  // namespace

void end_with_status(int status) noexcept {
  remove_doomed();
  ::_exit(status);
}

void end_by_signal(int signal) noexcept {
  remove_doomed();
  std::signal(signal, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  std::raise(signal);
}

void clean_up_on_signals() {
  for (const int signal : kEndingSignals) {
    struct sigaction action {};
    if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;
    action = {};
    sigfillset(&action.sa_mask);
    action.sa_handler = end_by_signal;
    sigaction(signal, &action, nullptr);
  }
}

}  // namespace moe
