#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "template/arguments.h"
#include "template/filters.h"
#include "template/number_format.h"
#include "template/operators.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

// The text without underscores. They are allowed only between two digits; nothing if one is elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  const auto is_word = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_word(text[i - 1]) || !is_word(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  text = strip(text, true, true);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const std::string_view prefix = text.substr(0, std::min<size_t>(2, text.size()));
  const int64_t named = prefix == "0x" || prefix == "0X"   ? 16
                        : prefix == "0o" || prefix == "0O" ? 8
                        : prefix == "0b" || prefix == "0B" ? 2
                                                           : 10;
  if (named != 10 && (base == 0 || base == named)) {
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
    base = named;
  }
  if (base == 0) {
    base = 10;
    if (text.size() > 1 && text.starts_with('0') && text.find_first_not_of("0_") != std::string_view::npos)
      return std::nullopt;
  }
  const auto digits = without_underscores(text);
  if (!digits || digits->empty() || digits->front() == '-') return std::nullopt;
  uint64_t magnitude = 0;
  const char* end = digits->data() + digits->size();
  const auto [stop, error] = std::from_chars(digits->data(), end, magnitude, static_cast<int>(base));
  if (stop != end) return std::nullopt;
  const uint64_t most = static_cast<uint64_t>(INT64_MAX) + negative;
  if (error != std::errc() || magnitude > most) fail("the number {} is more than 64 bits hold", text);
  return static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
}

std::optional<double> parse_real(std::string_view text) {
  text = strip(text, true, true);
  const auto plain = without_underscores(text);
  if (!plain || plain->empty()) return std::nullopt;
  std::string_view digits = *plain;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  if (digits.empty() || digits.front() == '-' || digits.front() == '+') return std::nullopt;
  double value = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (stop != digits.data() + digits.size() || digits.find('(') != std::string_view::npos) return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    value = std::strtod(std::string(digits).c_str(), nullptr);
  } else if (error != std::errc()) {
    return std::nullopt;
  }
  return negative ? -value : value;
}

Value as_int(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "int", {"default", "base"});
  value.require_defined();
  std::optional<int64_t> integer;
  if (value.is_string()) {
    const int64_t base = bound.integer(1, 10);
    if (base == 0 || (base >= 2 && base <= 36)) integer = parse_integer(value.text(), base);
    const std::optional<double> real = integer ? std::nullopt : parse_real(value.text());
    if (real && std::isfinite(*real)) integer = whole_part(*real);
  } else if (value.is(Type::real)) {
    if (!std::isnan(value.real())) integer = whole_part(value.real());
  } else if (value.is_integral()) {
    integer = value.integer();
  }
  if (integer) return Value(*integer);
  return bound[0] == nullptr ? Value(int64_t{0}) : *bound[0];
}

Value as_float(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "float", {"default"});
  value.require_defined();
  if (value.is_number()) return Value(value.real());
  const std::optional<double> real = value.is_string() ? parse_real(value.text()) : std::nullopt;
  if (real) return Value(*real);
  return bound[0] == nullptr ? Value(0.0) : *bound[0];
}

Value absolute(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "abs", {});
  value.require_defined();
  if (value.is(Type::real)) return Value(std::fabs(value.real()));
  if (!value.is_integral()) fail("bad operand type for abs(): '{}'", type_name(value));
  return value.integer() < 0 ? negative(value) : Value(value.integer());
}

// A half goes to the even neighbour of the remaining digit, by the number's exact value.
Value rounded(const Value& value, int64_t digits) {
  if (digits > 300 || digits < -300) return value;
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  if (value.is_integral()) {
    if (digits >= 0) return Value(value.integer());
    if (digits < -18) return Value(int64_t{0});
    const auto step = static_cast<int64_t>(scale);
    int64_t low = value.integer() / step * step;
    if (low > value.integer()) low -= step;
    const int64_t rest = value.integer() - low;
    const bool up = rest * 2 > step || (rest * 2 == step && (low / step) % 2 != 0);
    return Value(up ? low + step : low);
  }
  if (!std::isfinite(value.real())) return value;
  if (digits < 0) return Value(std::nearbyint(value.real() / scale) * scale);
  const std::string text = fmt::format("{:.{}f}", value.real(), static_cast<int>(digits));
  return Value(std::strtod(text.c_str(), nullptr));
}

Value round(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "round", {"precision", "method"});
  const std::string_view method = bound.text(1, "common");
  if (method != "common" && method != "ceil" && method != "floor") fail("method must be common, ceil or floor");
  value.require_defined();
  if (!value.is_number()) fail("round needs a number, found '{}'", type_name(value));
  const int64_t digits = bound.integer(0, 0);
  if (method == "common") return rounded(value, digits);
  const Value scale = power(Value(int64_t{10}), Value(digits));
  const double scaled = multiply(value, scale).real();
  if (!std::isfinite(scaled)) fail("cannot convert float infinity or NaN to integer");
  return divide(Value(method == "ceil" ? std::ceil(scaled) : std::floor(scaled)), scale);
}

Value filesizeformat(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "filesizeformat", {"binary"});
  value.require_defined();
  const std::optional<double> size = value.is_number()   ? value.real()
                                     : value.is_string() ? parse_real(value.text())
                                                         : std::nullopt;
  if (!size) fail("filesizeformat needs a number, found '{}'", type_name(value));
  const bool binary = bound.truth(0, false);
  const double base = binary ? 1024 : 1000;
  if (*size == 1) return Value("1 Byte");
  if (*size < base) return Value(fmt::format("{} Bytes", whole_part(*size)));
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base * base;
  size_t i = 0;
  while (i + 1 < kPrefixes.size() && *size >= unit) ++i, unit *= base;
  const std::string name = binary ? fmt::format("{}iB", i == 0 ? 'K' : kPrefixes[i]) : fmt::format("{}B", kPrefixes[i]);
  return Value(fmt::format("{:.1f} {}", base * *size / unit, name));
}

}  // namespace

std::vector<Filter> number_filters() {
  return {
      {"abs", absolute}, {"filesizeformat", filesizeformat}, {"float", as_float}, {"int", as_int}, {"round", round}};
}

}  // namespace moe::jinja
