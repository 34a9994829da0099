#pragma once
/// The arguments of a call, found by the names of its parameters.

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "template/value.h"

namespace moe::jinja {

/// Assigns each argument to its parameter. Throws an Error if there are too many, if a name is unknown or given twice,
/// or if one of the first `required` is missing. Errors call the function `function`. For one thread at a time.
class Bound {
 public:
  Bound(const Arguments& arguments, std::string_view function, std::initializer_list<std::string_view> parameters,
        size_t required = 0);

  /// Null if the argument was not given.
  const Value* operator[](size_t i) const { return values_[i]; }
  const Value& required(size_t i) const { return *values_[i]; }
  bool truth(size_t i, bool fallback) const { return values_[i] == nullptr ? fallback : values_[i]->truth(); }
  /// An integer; an error for anything else.
  int64_t integer(size_t i, int64_t fallback) const;
  /// Text; an error for anything else.
  std::string_view text(size_t i, std::string_view fallback) const;
  /// Text, or nothing if the argument is absent or none.
  std::optional<std::string_view> optional_text(size_t i) const;
  /// The argument, or null if it is absent or none.
  const Value* given(size_t i) const {
    return values_[i] == nullptr || values_[i]->is(Type::none) ? nullptr : values_[i];
  }

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace moe::jinja
