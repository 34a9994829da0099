#pragma once
/// Settings of a run file that must lie in a range or name one of a few values; others are refused with file and line.

#include <cmath>
#include <optional>

#include "formats/toml.h"

namespace moe {

inline int64_t at_least(Settings& settings, std::string_view key, int64_t value, int64_t least) {
  if (value < least) settings.refuse(key, fmt::format("at least {}", least));
  return value;
}

inline int64_t integer(Settings& settings, std::string_view key, int64_t default_value, int64_t least) {
  return at_least(settings, key, settings.get<int64_t>(key, default_value), least);
}

inline int64_t required_integer(Settings& settings, std::string_view key, int64_t least) {
  return at_least(settings, key, settings.require<int64_t>(key), least);
}

inline double number_in(Settings& settings, std::string_view key, double default_value, double least, double most) {
  const double value = settings.get<double>(key, default_value);
  if (!(value >= least && value <= most)) settings.refuse(key, fmt::format("a number from {} to {}", least, most));
  return value;
}

inline double non_negative(Settings& settings, std::string_view key, double default_value) {
  const double value = settings.get<double>(key, default_value);
  if (!(value >= 0) || std::isinf(value)) settings.refuse(key, "a number of 0 or more");
  return value;
}

/// A setting that names one of a few values.
template <class T>
T choice(Settings& settings, std::string_view key, T default_value, std::optional<T> (*from)(std::string_view),
         const char* expected) {
  const auto found = from(settings.get<std::string>(key, name(default_value)));
  if (!found) settings.refuse(key, expected);
  return *found;
}

}  // namespace moe
