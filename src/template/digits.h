#pragma once
/// Numbers written as decimal digits.

#include <charconv>
#include <cstdint>
#include <string_view>

namespace moe::jinja {

/// The value of at most 18 digits.
inline int64_t digits_value(std::string_view digits) {
  int64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

}  // namespace moe::jinja
