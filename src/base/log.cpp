#include "base/log.h"

#include <cstdio>
#include <mutex>
#include <string>

#include <unistd.h>

#include "base/terminal.h"

namespace moe {
namespace {

std::mutex log_mutex;
bool status_shown = false;

void erase_status() {
  if (status_shown) std::fputs("\r\033[K", stderr);
  status_shown = false;
}

}  // namespace

bool stderr_is_terminal() {
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  return terminal;
}

void log_line(std::string_view line) {
  std::lock_guard lock(log_mutex);
  erase_status();
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
  std::fflush(stderr);
}

void show_status(std::string_view text) {
  if (!stderr_is_terminal()) return;
  std::lock_guard lock(log_mutex);
  std::fprintf(stderr, "\r\033[K%s", std::string(text.substr(0, terminal_width() - 1)).c_str());
  std::fflush(stderr);
  status_shown = true;
}

void clear_status() {
  std::lock_guard lock(log_mutex);
  erase_status();
  std::fflush(stderr);
}

}  // namespace moe
