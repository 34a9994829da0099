#pragma once
/// Standard output: results, and nothing else. Every byte of it passes here, so that a full disk is an error in every
/// command. One thread at a time.

#include <string_view>

#include <fmt/format.h>

namespace moe {

/// Writes exactly these bytes. They reach the system at once, or with flush_output(). Throws Error where the system
/// takes no more; from then on nothing is written.
void write_output(std::string_view bytes);

/// Hands everything written so far to the system; throws Error where it does not take it.
void flush_output();

/// For text that must not end a long run: hands it to the system, or warns (once) where that fails. output_failed()
/// says so at the program's end.
void offer_output(std::string_view text);

/// True once anything could not be written.
bool output_failed();

/// Opens something harmless in the place of a standard stream that is closed, so that no file of the program is taken
/// for it. Call before any file is opened; writing to a standard output that was closed is an error.
void reserve_standard_streams();

/// Writes text for people, or JSON: always valid UTF-8, with U+FFFD for what is not.
void print_text(std::string_view text);

template <class... Args>
void print_output(fmt::format_string<Args...> format, Args&&... args) {
  print_text(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moe
