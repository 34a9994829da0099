#include "template/number_format.h"

#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

constexpr int64_t kWidest = 1'000'000;

bool is_align(std::string_view c) { return c == "<" || c == ">" || c == "^" || c == "="; }

int64_t take_number(std::string_view& text) {
  int64_t value = 0;
  while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    value = value * 10 + (text.front() - '0');
    if (value > kWidest) fail("a format asks for more than {} characters", kWidest);
    text.remove_prefix(1);
  }
  return value;
}

std::string repeated(std::string_view piece, int64_t times) {
  std::string text;
  for (int64_t i = 0; i < times; ++i) text += piece;
  return text;
}

std::string padded(std::string_view prefix, std::string_view body, const FormatSpec& spec, char default_align) {
  const auto length = static_cast<int64_t>(prefix.size() + code_points(body));
  const int64_t missing = std::max<int64_t>(0, spec.width - length);
  need_room(static_cast<uint64_t>(missing) * spec.fill.size());
  const char align = spec.align == 0 ? default_align : spec.align;
  const std::string whole = std::string(prefix) + std::string(body);
  if (align == '=') return std::string(prefix) + repeated(spec.fill, missing) + std::string(body);
  if (align == '<') return whole + repeated(spec.fill, missing);
  if (align == '>') return repeated(spec.fill, missing) + whole;
  return repeated(spec.fill, missing / 2) + whole + repeated(spec.fill, missing - missing / 2);
}

// Digits in groups from the right. If the padding is zeros, these are grouped too.
std::string grouped(std::string digits, const FormatSpec& spec, size_t size, int64_t room) {
  if (spec.grouping == 0) return digits;
  if (spec.fill == "0" && spec.align == '=') {
    const auto length = [&] { return static_cast<int64_t>(digits.size() + (digits.size() - 1) / size); };
    while (length() < room) digits.insert(0, 1, '0');
  }
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % size == 0) text += spec.grouping;
    text += digits[i];
  }
  return text;
}

std::string sign_of(bool negative, const FormatSpec& spec) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string print_real(double value, char type, int64_t precision, bool alternate) {
  const char format[] = {
      '%', alternate ? '#' : '.', alternate ? '.' : '*', alternate ? '*' : type, alternate ? type : '\0', '\0'};
  char buffer[2048];
  if (precision > 1000) fail("a format asks for more than 1000 digits");
  const int length = std::snprintf(buffer, sizeof buffer, format, static_cast<int>(precision), value);
  return std::string(buffer, static_cast<size_t>(length));
}

}  // namespace

int64_t whole_part(double value) {
  if (std::isnan(value)) fail("cannot convert float NaN to integer");
  if (std::isinf(value)) fail("cannot convert float infinity to integer");
  constexpr double kEnd = 9223372036854775808.0;
  if (value >= kEnd || value < -kEnd) fail("the number {} is more than an integer of 64 bits holds", value);
  return static_cast<int64_t>(value);
}

FormatSpec parse_format_spec(std::string_view text) {
  const std::string_view whole = text;
  FormatSpec spec;
  const size_t first = text.empty() ? 0 : std::max<size_t>(1, utf8_length(text));
  if (text.size() > first && is_align(text.substr(first, 1))) {
    spec.fill = std::string(text.substr(0, first));
    spec.align = text[first];
    text.remove_prefix(first + 1);
  } else if (!text.empty() && is_align(text.substr(0, 1))) {
    spec.align = text.front();
    text.remove_prefix(1);
  }
  const auto take = [&](std::string_view any) -> char {
    if (text.empty() || any.find(text.front()) == std::string_view::npos) return 0;
    const char c = text.front();
    text.remove_prefix(1);
    return c;
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != 0;
  if (take("0") != 0 && spec.align == 0) {
    spec.fill.assign(1, '0');
    spec.align = '=';
  }
  spec.width = take_number(text);
  spec.grouping = take(",_");
  if (take(".") != 0) {
    if (text.empty() || text.front() < '0' || text.front() > '9') fail("Format specifier missing precision");
    spec.precision = take_number(text);
  }
  if (!text.empty()) spec.type = take("bcdeEfFgGnosxX%");
  if (!text.empty()) fail("Invalid format specifier '{}'", whole);
  return spec;
}

std::string format_integer(int64_t value, const FormatSpec& spec) {
  if (spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos) {
    return format_real(static_cast<double>(value), spec);
  }
  if (spec.type == 's') fail("Unknown format code 's' for object of type 'int'");
  if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
  const uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  if (spec.type == 'c') {
    if (value < 0 || value > 0x10FFFF) fail("%c arg not in range(0x110000)");
    std::string text;
    utf8_append(text, static_cast<char32_t>(value));
    return padded("", text, spec, '<');
  }
  std::string digits, prefix;
  switch (spec.type) {
    case 'x':
      digits = fmt::format("{:x}", magnitude);
      prefix = "0x";
      break;
    case 'X':
      digits = fmt::format("{:X}", magnitude);
      prefix = "0X";
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude);
      prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", magnitude);
      prefix = "0b";
      break;
    default:
      digits = fmt::format("{}", magnitude);
  }
  if (!spec.alternate) prefix.clear();
  prefix = sign_of(value < 0, spec) + prefix;
  const bool by_four = spec.type != 0 && std::string_view("xXob").find(spec.type) != std::string_view::npos;
  digits = grouped(std::move(digits), spec, by_four ? 4 : 3, spec.width - static_cast<int64_t>(prefix.size()));
  return padded(prefix, digits, spec, '>');
}

std::string format_real(double value, const FormatSpec& spec) {
  if (spec.type == 's' || spec.type == 'd' || spec.type == 'x' || spec.type == 'X' || spec.type == 'o' ||
      spec.type == 'b' || spec.type == 'c') {
    fail("Unknown format code '{}' for object of type 'float'", spec.type);
  }
  const std::string sign = sign_of(std::signbit(value) && !std::isnan(value), spec);
  double magnitude = std::fabs(value);
  std::string body;
  if (!std::isfinite(magnitude)) {
    body = std::isnan(magnitude) ? "nan" : "inf";
    if (spec.type == 'E' || spec.type == 'F' || spec.type == 'G') body = body == "nan" ? "NAN" : "INF";
    if (spec.type == '%') body += "%";
  } else if (spec.type == '%') {
    body = print_real(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, spec.alternate) + "%";
  } else if (spec.type == 0 && spec.precision < 0) {
    body = float_text(magnitude);
  } else if (spec.type == 0 || spec.type == 'n') {
    const int64_t precision = spec.precision < 0 ? 6 : std::max<int64_t>(1, spec.precision);
    body = print_real(magnitude, 'g', precision, spec.alternate);
    const bool whole = spec.type == 0 && body.find_first_of(".en") == std::string::npos;
    if (whole && static_cast<int64_t>(body.size()) < precision) body += ".0";
    if (whole && static_cast<int64_t>(body.size()) == precision)
      body = print_real(magnitude, 'e', precision - 1, false);
  } else {
    body = print_real(magnitude, spec.type, spec.precision < 0 ? 6 : spec.precision, spec.alternate);
  }
  const size_t whole = std::min(body.find_first_of(".e%"), body.size());
  const auto rest = static_cast<int64_t>(sign.size() + body.size() - whole);
  body = grouped(body.substr(0, whole), spec, 3, spec.width - rest) + body.substr(whole);
  return padded(sign, body, spec, '>');
}

std::string format_text(std::string_view text, const FormatSpec& spec) {
  if (spec.type != 0 && spec.type != 's') fail("Unknown format code '{}' for object of type 'str'", spec.type);
  if (spec.sign != '-') fail("Sign not allowed in string format specifier");
  if (spec.grouping != 0) fail("Cannot specify '{}' with 's'.", spec.grouping);
  FormatSpec own = spec;
  if (own.align == '=') {
    if (own.fill != "0") fail("'=' alignment not allowed in string format specifier");
    own.align = '<';
  }
  if (own.precision >= 0) text = text.substr(0, byte_of(text, static_cast<size_t>(own.precision)));
  return padded("", text, own, '<');
}

}  // namespace moe::jinja
