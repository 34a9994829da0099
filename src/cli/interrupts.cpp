#include "cli/interrupts.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/error.h"
#include "base/signal_cleanup.h"

namespace moe {
namespace {

constexpr std::array kSignals{SIGINT, SIGWINCH, SIGCONT, SIGTERM, SIGHUP, SIGQUIT};

std::atomic<bool> interrupted, redraw, editing;
std::atomic<int> ending_signal;
std::array<int, 2> wake = {-1, -1};  // a pipe: a signal that comes just before poll() is not lost
std::array<struct sigaction, kSignals.size()> before;

void note(int signal) {
  const int error = errno;
  if (signal == SIGINT) {
    interrupted = true;
  } else if (signal == SIGWINCH || signal == SIGCONT) {
    redraw = true;
  } else if (editing) {
    ending_signal = signal;
  } else {
    end_by_signal(signal);
  }
  [[maybe_unused]] const auto written = ::write(wake[1], "", 1);  // a full pipe wakes too
  errno = error;
}

}  // namespace

Interrupts::Interrupts() {
  if (::pipe2(wake.data(), O_CLOEXEC | O_NONBLOCK) != 0) fail("no pipe could be made: {}", std::strerror(errno));
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &before[i]);
    if (before[i].sa_handler == SIG_IGN) continue;  // as under nohup
    struct sigaction action {};
    sigfillset(&action.sa_mask);
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;  // writing is not disturbed; poll() never restarts
    sigaction(kSignals[i], &action, nullptr);
  }
}

Interrupts::~Interrupts() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before[i], nullptr);
  for (int& end : wake) {
    ::close(end);
    end = -1;
  }
}

bool Interrupts::pending() const { return interrupted; }
bool Interrupts::take() { return interrupted.exchange(false); }
bool Interrupts::take_redraw() { return redraw.exchange(false); }
void Interrupts::set_editing(bool is) { editing = is; }
int Interrupts::ending() const { return ending_signal; }

bool Interrupts::wait_for(int descriptor) const {
  std::array<pollfd, 2> waited{pollfd{descriptor, POLLIN, 0}, pollfd{wake[0], POLLIN, 0}};
  ::poll(waited.data(), waited.size(), -1);
  std::array<char, 64> bytes;
  while (::read(wake[0], bytes.data(), bytes.size()) > 0) {}
  return waited[0].revents != 0 && waited[1].revents == 0;
}

}  // namespace moe
