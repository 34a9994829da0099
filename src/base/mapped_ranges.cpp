#include "base/mapped_ranges.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <csignal>
#include <cstring>

#include <unistd.h>

#include "base/signal_cleanup.h"

namespace moe {

namespace {

/// An entry of the list of all mappings. It is used again and never freed, because a handler may read the list at any
/// moment.
struct Mapping {
  enum State { unused, changing, mapped };

  std::atomic<int> state{changing};  // the other members are written while it is `changing` only
  const char* begin = nullptr;
  const char* end = nullptr;
  char path[PATH_MAX];
  Mapping* next = nullptr;
};

std::atomic<Mapping*> mappings{nullptr};

Mapping* free_mapping() {
  for (Mapping* one = mappings; one != nullptr; one = one->next) {
    int expected = Mapping::unused;
    if (one->state.compare_exchange_strong(expected, Mapping::changing)) return one;
  }
  auto* const one = new Mapping;
  one->next = mappings;
  while (!mappings.compare_exchange_weak(one->next, one)) {}
  return one;
}

/// A handler may not allocate memory, so it writes the parts of its sentence one by one.
void say(const char* text) noexcept {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

void bus_error(int signal, siginfo_t* info, void*) noexcept {
  const auto* const address = static_cast<const char*>(info->si_addr);
  for (const Mapping* one = mappings; one != nullptr; one = one->next) {
    if (one->state != Mapping::mapped || address < one->begin || address >= one->end) continue;
    say("error: ");
    say(one->path);
    say(" cannot be read to its end: it became shorter while it was used, or its disk failed; do not change files that "
        "are in use, and start again\n");
    end_with_status(1);
  }
  end_by_signal(signal);
}

}  // namespace

void remember_mapping(const void* data, size_t size, const fs::path& path) {
  Mapping* const one = free_mapping();
  one->begin = static_cast<const char*>(data);
  one->end = one->begin + size;
  const size_t length = std::min(path.native().size(), sizeof(one->path) - 1);
  std::memcpy(one->path, path.c_str(), length);
  one->path[length] = '\0';
  one->state = Mapping::mapped;
}

void forget_mapping(const void* data) noexcept {
  for (Mapping* one = mappings; one != nullptr; one = one->next) {
    if (one->state == Mapping::mapped && one->begin == data) one->state = Mapping::unused;
  }
}

void end_when_a_mapped_file_is_lost() {
  struct sigaction action {};
  sigfillset(&action.sa_mask);
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = bus_error;
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace moe
