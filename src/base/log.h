#pragma once
/// Messages for the person at the terminal. They go to stderr; results go to stdout.

#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace moe {

/// Writes one line to stderr, after clearing the status line. Bytes that are not UTF-8 become U+FFFD.
void log_line(std::string_view line);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line("warning: " + fmt::format(format, std::forward<Args>(args)...));
}

/// From now on log_line() and show_status() do nothing, until `quiet` is false. For a process that leaves talking to
/// another one.
void set_quiet(bool quiet);

/// When a status becomes a line, where no terminal shows it: once a minute, the first time a minute after the first
/// status. So a log of hours has progress, and a short command prints nothing. One thread at a time.
class StatusLines {
 public:
  /// `now` in seconds, of a clock that never goes back.
  bool due(double now);

 private:
  std::optional<double> last_;
};

/// Shows `text` as the last line of a terminal and replaces the previous one. If stderr is not a terminal, a line is
/// written when StatusLines says so.
void show_status(std::string_view text);
/// Ends the status line.
void clear_status();
/// True when stderr is a terminal.
bool stderr_is_terminal();

}  // namespace moe
