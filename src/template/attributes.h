#pragma once
/// Members of values: value.name, value[key] and value[begin:end:step], with the rules of jinja2's immutable sandbox.

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

/// value.name: a method or, of a dictionary, a member. Undefined where there is neither; an error of an undefined
/// value.
Value get_attribute(const Value& value, std::string_view name);

/// value[key]: a member or item or, for text as key, an attribute.
Value get_item(const Value& value, const Value& key);

/// Bounds that are none count as absent. An error for what cannot be cut.
Value get_slice(const Value& value, const Value& begin, const Value& end, const Value& step);

}  // namespace moe::jinja
