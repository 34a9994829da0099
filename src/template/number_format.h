#pragma once
/// Format specifications: [[fill]align][sign][#][0][width][grouping][.precision][type].

#include <cstdint>
#include <string>
#include <string_view>

namespace moe::jinja {

struct FormatSpec {
  std::string fill = " ";
  char align = 0;  // < > ^ =, or 0: as the type has it
  char sign = '-';
  bool alternate = false;
  int64_t width = 0;
  char grouping = 0;
  int64_t precision = -1;
  char type = 0;
};

/// The number without its fraction. Throws an Error if it is not finite or 64 bits do not hold it.
int64_t whole_part(double value);

FormatSpec parse_format_spec(std::string_view text);

/// Digits of |value| with sign and padding.
std::string format_integer(int64_t value, const FormatSpec& spec);
std::string format_real(double value, const FormatSpec& spec);
/// Text that is no number: cut to the precision and padded.
std::string format_text(std::string_view text, const FormatSpec& spec);

}  // namespace moe::jinja
