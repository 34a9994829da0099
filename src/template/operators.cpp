#include "template/operators.h"

#include <cmath>

#include "base/error.h"
#include "template/formatting.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

[[noreturn]] void refuse(const char* symbol, const Value& a, const Value& b) {
  a.require_defined();
  b.require_defined();
  fail("unsupported operand type(s) for {}: '{}' and '{}'", symbol, type_name(a), type_name(b));
}

[[noreturn]] void fail_overflow() { fail("a result is an integer of more than 64 bits, which is not supported"); }

bool both_numbers(const Value& a, const Value& b) { return a.is_number() && b.is_number(); }
bool both_integral(const Value& a, const Value& b) { return a.is_integral() && b.is_integral(); }

Value joined_text(const Value& a, const Value& b) {
  need_room(a.text().size() + b.text().size());
  if (!a.is_markup() && !b.is_markup()) return Value(a.text() + b.text());
  const auto escaped = [](const Value& v) { return v.is_markup() ? v.text() : html_escaped(v.text()); };
  return Value(escaped(a) + escaped(b), true);
}

Value repeated(const Value& sequence, int64_t times) {
  const auto count = static_cast<uint64_t>(std::max<int64_t>(0, times));
  if (sequence.is_string()) {
    const uint64_t size = sequence.text().size();
    if (size != 0 && count > (uint64_t{1} << 40) / size) fail("a text of more than 2^40 bytes");
    need_room(size * count);
    std::string text;
    text.reserve(size * count);
    for (uint64_t i = 0; i < count && size != 0; ++i) text += sequence.text();
    return Value(std::move(text), sequence.is_markup());
  }
  const uint64_t size = sequence.items().size();
  if (size != 0 && count > (uint64_t{1} << 32) / size) fail("a list of more than 2^32 items");
  need_room(size * count * sizeof(Value));
  Values items;
  items.reserve(size * count);
  for (uint64_t i = 0; i < count && size != 0; ++i) {
    items.insert(items.end(), sequence.items().begin(), sequence.items().end());
  }
  return sequence.is(Type::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

bool can_repeat(const Value& v) { return v.is_string() || v.is(Type::list) || v.is(Type::tuple); }

struct Division {
  double quotient, rest;
};

// The rest has the sign of the divisor.
Division floored(double a, double b) {
  if (b == 0) fail("float division by zero");
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1.0;
    }
  } else {
    rest = std::copysign(0.0, b);
  }
  double floor = std::copysign(0.0, a / b);
  if (quotient != 0) {
    floor = std::floor(quotient);
    if (quotient - floor > 0.5) floor += 1.0;
  }
  return {floor, rest};
}

void refuse_zero(int64_t divisor) {
  if (divisor == 0) fail("integer division or modulo by zero");
}

Value integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) fail_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
  return Value(result);
}

}  // namespace

Value add(const Value& a, const Value& b) {
  if (both_integral(a, b)) {
    int64_t sum = 0;
    if (__builtin_add_overflow(a.integer(), b.integer(), &sum)) fail_overflow();
    return Value(sum);
  }
  if (both_numbers(a, b)) return Value(a.real() + b.real());
  if (a.is_string() && b.is_string()) return joined_text(a, b);
  const bool sequences = a.type() == b.type() && (a.is(Type::list) || a.is(Type::tuple));
  if (!sequences) refuse("+", a, b);
  need_room((a.items().size() + b.items().size()) * sizeof(Value));
  Values items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return a.is(Type::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value subtract(const Value& a, const Value& b) {
  if (!both_numbers(a, b)) refuse("-", a, b);
  if (!both_integral(a, b)) return Value(a.real() - b.real());
  int64_t difference = 0;
  if (__builtin_sub_overflow(a.integer(), b.integer(), &difference)) fail_overflow();
  return Value(difference);
}

Value multiply(const Value& a, const Value& b) {
  if (both_integral(a, b)) {
    int64_t product = 0;
    if (__builtin_mul_overflow(a.integer(), b.integer(), &product)) fail_overflow();
    return Value(product);
  }
  if (both_numbers(a, b)) return Value(a.real() * b.real());
  if (can_repeat(a) && b.is_integral()) return repeated(a, b.integer());
  if (can_repeat(b) && a.is_integral()) return repeated(b, a.integer());
  refuse("*", a, b);
}

Value divide(const Value& a, const Value& b) {
  if (!both_numbers(a, b)) refuse("/", a, b);
  if (b.real() == 0) fail("division by zero");
  if (both_integral(a, b)) {
    return Value(static_cast<double>(static_cast<long double>(a.integer()) / static_cast<long double>(b.integer())));
  }
  return Value(a.real() / b.real());
}

Value floor_divide(const Value& a, const Value& b) {
  if (!both_numbers(a, b)) refuse("//", a, b);
  if (!both_integral(a, b)) return Value(floored(a.real(), b.real()).quotient);
  refuse_zero(b.integer());
  if (a.integer() == INT64_MIN && b.integer() == -1) fail_overflow();
  const int64_t quotient = a.integer() / b.integer();
  const bool below = a.integer() % b.integer() != 0 && (a.integer() < 0) != (b.integer() < 0);
  return Value(below ? quotient - 1 : quotient);
}

Value modulo(const Value& a, const Value& b) {
  if (a.is_string()) return percent_formatted(a, b);
  if (!both_numbers(a, b)) refuse("%", a, b);
  if (!both_integral(a, b)) return Value(floored(a.real(), b.real()).rest);
  refuse_zero(b.integer());
  if (b.integer() == -1) return Value(int64_t{0});
  const int64_t rest = a.integer() % b.integer();
  return Value(rest != 0 && (rest < 0) != (b.integer() < 0) ? rest + b.integer() : rest);
}

Value power(const Value& a, const Value& b) {
  if (!both_numbers(a, b)) refuse("**", a, b);
  if (both_integral(a, b) && b.integer() >= 0) return integer_power(a.integer(), b.integer());
  if (a.real() == 0 && b.real() < 0) fail("0.0 cannot be raised to a negative power");
  const bool is_complex = a.real() < 0 && std::isfinite(b.real()) && b.real() != std::floor(b.real());
  if (is_complex) fail("a negative number to a fractional power is a complex number, which is not supported");
  const double result = std::pow(a.real(), b.real());
  if (std::isinf(result) && std::isfinite(a.real()) && std::isfinite(b.real())) fail("Numerical result out of range");
  return Value(result);
}

Value negative(const Value& a) {
  a.require_defined();
  if (a.is(Type::real)) return Value(-a.real());
  if (!a.is_integral()) fail("bad operand type for unary -: '{}'", type_name(a));
  if (a.integer() == INT64_MIN) fail_overflow();
  return Value(-a.integer());
}

Value positive(const Value& a) {
  a.require_defined();
  if (a.is(Type::real)) return a;
  if (!a.is_integral()) fail("bad operand type for unary +: '{}'", type_name(a));
  return Value(a.integer());
}

}  // namespace moe::jinja
