#pragma once
/// Members of members, as filters name them: "function.name", "items.0".

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

/// The path that a filter's argument `attribute` says: text, an integer, or none for the value itself.
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

/// Text in lower case, all else as it is: how filters sort unless told otherwise.
Value without_case(const Value& value);

}  // namespace moe::jinja
