#pragma once
/// Members of values: value.name, value[key] and value[begin:end:step], with the rules of jinja2's immutable sandbox.

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

/// value.name: a method or, for a dictionary, a member. Undefined if there is neither. An error for an undefined value.
Value get_attribute(const Value& value, std::string_view name);

/// value[key]: a member or item or, if the key is text, an attribute.
Value get_item(const Value& value, const Value& key);

/// A bound that is none counts as absent. An error for a value that cannot be sliced.
Value get_slice(const Value& value, const Value& begin, const Value& end, const Value& step);

}  // namespace moe::jinja
