#pragma once
/// Methods of text, lists, tuples and dictionaries.

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

using MethodFunction = Value (*)(const Value& self, const Arguments& arguments);

struct Method {
  std::string_view name;
  MethodFunction function;  // null: Python has it, but templates do not
  bool changes = false;     // true: it would change the value, which templates must not do
};

/// Null if Python has no such attribute.
const Method* find_method(const Value& value, std::string_view name);
const Method* find_string_method(std::string_view name);

/// True if every Python object has it, such as __class__.
bool is_python_attribute(std::string_view name);

/// The result of the filter groupby: a tuple whose parts are also named `grouper` and `list`.
struct GroupTuple : Items {
  using Items::Items;
};
bool is_group_tuple(const Value& value);

}  // namespace moe::jinja
