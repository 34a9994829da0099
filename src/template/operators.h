#pragma once
/// Python's arithmetic. Integers have 64 bits here; a result that needs more is an error.

#include "template/value.h"

namespace moe::jinja {

Value add(const Value& a, const Value& b);
Value subtract(const Value& a, const Value& b);
Value multiply(const Value& a, const Value& b);
Value divide(const Value& a, const Value& b);
Value floor_divide(const Value& a, const Value& b);
Value modulo(const Value& a, const Value& b);  // formats where `a` is text
Value power(const Value& a, const Value& b);
Value negative(const Value& a);
Value positive(const Value& a);

}  // namespace moe::jinja
