#include "cli/terminal_mode.h"

#include <string_view>

#include <unistd.h>

namespace moe {

TerminalMode::TerminalMode() {
  termios mode{};
  if (::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &mode) == 0) mode_ = mode;
}

void TerminalMode::give_back() const noexcept {
  termios now{};
  if (!mode_ || ::tcgetattr(STDIN_FILENO, &now) != 0 || now.c_lflag == mode_->c_lflag) return;
  ::tcsetattr(STDIN_FILENO, TCSANOW, &*mode_);
  constexpr std::string_view kPasteStop = "\x1b[?2004l\n";  // a pasted text has no marks any more
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kPasteStop.data(), kPasteStop.size());
}

}  // namespace moe
