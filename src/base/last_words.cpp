#include "base/last_words.h"

#include <exception>
#include <new>

#include "base/handler_list.h"
#include "base/signal_cleanup.h"

namespace moe {
namespace {

// There may be no memory for a string.
[[noreturn]] void end() noexcept {
  try {
    if (std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
    say_in_handler(
        "error: the program ended itself; this is a mistake in moe, please report it with the command line\n");
  } catch (const std::bad_alloc&) {
    say_in_handler("error: the system has no more memory for this program; use smaller sizes or free memory\n");
  } catch (const std::exception& error) {
    say_in_handler("error: an unexpected error: ");
    say_in_handler(error.what());
    say_in_handler("; this is a mistake in moe, please report it with the command line\n");
  } catch (...) {
    say_in_handler("error: an unexpected error; this is a mistake in moe, please report it with the command line\n");
  }
  end_with_status(1);
}

}  // namespace

void end_with_a_sentence() { std::set_terminate(end); }

}  // namespace moe
