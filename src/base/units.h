#pragma once
/// Numbers in the units that people read.

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace moe {

constexpr double gib(double bytes) { return bytes / 1073741824.0; }
constexpr double gib(int64_t bytes) { return gib(static_cast<double>(bytes)); }

/// "1 step", "2 steps". `plural` is for nouns whose plural is not the noun with an s.
template <class Count>
std::string counted(Count count, std::string_view noun, std::string_view plural = "") {
  if (count == Count{1}) return fmt::format("1 {}", noun);
  return plural.empty() ? fmt::format("{} {}s", count, noun) : fmt::format("{} {}", count, plural);
}

}  // namespace moe
