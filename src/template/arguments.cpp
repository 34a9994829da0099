#include "template/arguments.h"

#include <algorithm>

#include "base/error.h"

namespace moe::jinja {

Bound::Bound(const Arguments& arguments, std::string_view function, std::initializer_list<std::string_view> parameters,
             size_t required)
    : function_(function), values_(parameters.size(), nullptr) {
  if (arguments.positional.size() > parameters.size()) {
    fail("{} takes at most {} arguments, {} were given", function, parameters.size(), arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto known = std::find(parameters.begin(), parameters.end(), name);
    if (known == parameters.end()) fail("{} has no argument \"{}\"", function, name);
    const auto at = static_cast<size_t>(known - parameters.begin());
    if (values_[at] != nullptr) fail("{} got its argument \"{}\" twice", function, name);
    values_[at] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) fail("{} needs the argument \"{}\"", function, *(parameters.begin() + i));
  }
}

int64_t Bound::integer(size_t i, int64_t fallback) const {
  const Value* value = values_[i];
  if (value == nullptr) return fallback;
  value->require_defined();
  if (!value->is_integral()) fail("{} needs an integer, found '{}'", function_, type_name(*value));
  return value->integer();
}

std::string_view Bound::text(size_t i, std::string_view fallback) const {
  const Value* value = values_[i];
  if (value == nullptr) return fallback;
  value->require_defined();
  if (!value->is_string()) fail("{} needs a string, found '{}'", function_, type_name(*value));
  return value->text();
}

std::optional<std::string_view> Bound::optional_text(size_t i) const {
  if (given(i) == nullptr) return std::nullopt;
  return text(i, {});
}

}  // namespace moe::jinja
