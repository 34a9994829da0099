
#include "base/interrupt.h"

#include <array>
#include <csignal>

#include "base/signal_cleanup.h"

namespace moe {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGPIPE};
volatile std::sig_atomic_t received = 0;
int guards = 0;
std::array<struct sigaction, kSignals.size()> before;

void remember(int signal) {
  // A closed terminal sends SIGHUP more than once, and the end of a session also sends SIGTERM.
  if (received != 0 && received != SIGHUP && signal != SIGHUP) {
    end_by_signal(signal);
  }
  if (received == 0 || received == SIGHUP) received = signal;
}

bool is_ignored(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  if (guards++ > 0) return;
  received = 0;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &before[i]);
    if (kSignals[i] == SIGHUP && is_ignored(before[i])) continue;
    struct sigaction action {};
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    action.sa_handler = kSignals[i] == SIGPIPE ? SIG_IGN : remember;
    sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  if (--guards > 0) return;
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before[i], nullptr);
}

int InterruptGuard::signal() { return received; }

}  // namespace moe
