#include "base/last_words.h"

#include <cstring>
#include <exception>
#include <new>

#include <unistd.h>

#include "base/signal_cleanup.h"

namespace moe {
namespace {

/// There may be no memory for a string.
void say(const char* text) noexcept {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

[[noreturn]] void end() noexcept {
  try {
    if (std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
    say("error: the program ended itself; this is a mistake in moe, please report it with the command line\n");
  } catch (const std::bad_alloc&) {
    say("error: the system has no more memory for this program; use smaller sizes or free memory\n");
  } catch (const std::exception& error) {
    say("error: an unexpected error: ");
    say(error.what());
    say("; this is a mistake in moe, please report it with the command line\n");
  } catch (...) {
    say("error: an unexpected error; this is a mistake in moe, please report it with the command line\n");
  }
  end_with_status(1);
}

}  // namespace

void end_with_a_sentence() { std::set_terminate(end); }

}  // namespace moe
