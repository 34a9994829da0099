#include "base/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/printable.h"
#include "base/progress_count.h"
#include "base/utf8.h"

namespace moe {
namespace {

bool failed = false;

[[noreturn]] void fail_output() {
  const int reason = errno;
  failed = true;
  fail("standard output could not be written: {}; free some space or send it elsewhere", std::strerror(reason));
}

}  // namespace

void write_output(std::string_view bytes) {
  if (failed) return;
  const SystemWait wait;
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) fail_output();
}

void flush_output() {
  if (failed) return;
  const SystemWait wait;
  if (std::fflush(stdout) != 0) fail_output();
}

void offer_output(std::string_view text) {
  try {
    print_text(text);
    flush_output();
  } catch (const Error& error) {
    log_warning("{}; the work continues, and the exit status will be 1", error.what());
  }
}

bool output_failed() { return failed; }

void reserve_standard_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (::fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is this one. Then nothing can be written to standard output.
    if (::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

void print_text(std::string_view text) {
  // Text that a model wrote, or a file's names, must not move the cursor or change the colours of a terminal.
  static const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  if (terminal) return write_output(printable(text, "\n\t"));
  if (utf8_valid_prefix(text) == text.size()) return write_output(text);
  write_output(valid_utf8(text));
}

}  // namespace moe
