#pragma once
/// Members of members, as filters name them: "function.name", "items.0".

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

/// The path in a filter's argument `attribute`: text, an integer, or none for the value itself.
/// Several threads may read it.
class Path {
 public:
  Path() = default;
  explicit Path(const Value& attribute);
  explicit Path(std::string_view text);
  Value of(const Value& value) const;

 private:
  Values parts_;
};

/// Several paths, separated by commas.
std::vector<Path> paths_of(const Value& attribute);

/// Text in lower case; other values unchanged. Filters sort this way by default.
Value without_case(const Value& value);

}  // namespace moe::jinja
