#include "base/mapped_ranges.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <csignal>
#include <cstring>

#include "base/handler_list.h"
#include "base/signal_cleanup.h"

namespace moe {

namespace {

struct Mapping {
  enum State { unused, changing, mapped };

  std::atomic<int> state{changing};  // the other members are written while it is `changing` only
  const char* begin = nullptr;
  const char* end = nullptr;
  char path[PATH_MAX];
  Mapping* next = nullptr;
};

HandlerList<Mapping> mappings;

void bus_error(int signal, siginfo_t* info, void*) noexcept {
  const auto* const address = static_cast<const char*>(info->si_addr);
  for (const Mapping* one = mappings.first(); one != nullptr; one = one->next) {
    if (one->state != Mapping::mapped || address < one->begin || address >= one->end) continue;
    say_in_handler("error: ");
    say_in_handler(one->path);
    say_in_handler(
        " cannot be read to its end: it became shorter while it was used, or its disk failed; do not change files that "
        "are in use, and start again\n");
    end_with_status(1);
  }
  end_by_signal(signal);
}

}  // namespace

void remember_mapping(const void* data, size_t size, const fs::path& path) {
  Mapping* const one = mappings.take();
  one->begin = static_cast<const char*>(data);
  one->end = one->begin + size;
  const size_t length = std::min(path.native().size(), sizeof(one->path) - 1);
  std::memcpy(one->path, path.c_str(), length);
  one->path[length] = '\0';
  one->state = Mapping::mapped;
}

void forget_mapping(const void* data) noexcept {
  for (Mapping* one = mappings.first(); one != nullptr; one = one->next) {
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
