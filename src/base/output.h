#pragma once
/// Standard output, for results only. All output goes through these functions, so that a full disk is an error in every
/// command. Use them on one thread at a time.

#include <string_view>

#include <fmt/format.h>

namespace moe {

/// Writes exactly these bytes. They reach the system at once, or with flush_output(). Throws Error if the system
/// accepts no more; after that nothing is written.
void write_output(std::string_view bytes);

/// Gives all written bytes to the system. Throws Error if it does not accept them.
void flush_output();

/// For text that must not end a long run: gives it to the system, and warns (once) if that fails. At the end of the
/// program output_failed() reports the failure.
void offer_output(std::string_view text);

/// True after something could not be written.
bool output_failed();

/// Opens /dev/null in the place of a standard stream that is closed, so that no file of the program gets that stream's
/// number. Call it before any file is opened. Writing to a standard output that was closed is an error.
void reserve_standard_streams();

/// Writes text for people, or JSON. The output is always valid UTF-8, with U+FFFD for invalid bytes. On a terminal
/// U+FFFD also replaces control characters, except line ends and tabs.
void print_text(std::string_view text);

template <class... Args>
void print_output(fmt::format_string<Args...> format, Args&&... args) {
  print_text(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moe
