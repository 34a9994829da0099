#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>

#include <unistd.h>

#include "base/clock.h"
#include "base/printable.h"
#include "base/progress_count.h"
#include "base/terminal.h"
#include "base/utf8.h"

namespace moe {
namespace {

std::mutex log_mutex;
bool status_shown = false;
StatusLines status_lines;
std::atomic<bool> is_quiet = false;

void erase_status() {
  if (status_shown) std::fputs("\r\033[K", stderr);
  status_shown = false;
}

std::string first_characters(std::string_view text, size_t count) {
  size_t bytes = 0;
  while (bytes < text.size() && count-- > 0) bytes += utf8_length(text.substr(bytes));
  return std::string(text.substr(0, bytes));
}

}  // namespace

bool stderr_is_terminal() {
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  return terminal;
}

void set_quiet(bool quiet) { is_quiet = quiet; }

void log_line(std::string_view line) {
  if (is_quiet) return;
  const std::string text = printable(line, "\n\t") + "\n";
  const SystemWait wait;
  std::lock_guard lock(log_mutex);
  erase_status();
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

bool StatusLines::due(double now) {
  constexpr double kSeconds = 60;
  if (!last_) last_ = now;
  if (now - *last_ < kSeconds) return false;
  last_ = now;
  return true;
}

void show_status(std::string_view text) {
  if (is_quiet) return;
  if (!stderr_is_terminal()) {
    const bool due = [] {
      std::lock_guard lock(log_mutex);
      return status_lines.due(steady_seconds());
    }();
    if (due) log_line(text);
    return;
  }
  const std::string line = first_characters(printable(text), terminal_width() - 1);
  const SystemWait wait;
  std::lock_guard lock(log_mutex);
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
  status_shown = true;
}

void clear_status() {
  std::lock_guard lock(log_mutex);
  erase_status();
  std::fflush(stderr);
}

}  // namespace moe
