#pragma once
/// Tests: value is name(arguments).

#include <string_view>

#include "template/value.h"

namespace moe::jinja {

bool is_test(std::string_view name);
/// An error if there is no test of that name.
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments);

}  // namespace moe::jinja
