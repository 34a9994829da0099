#include "base/error.h"
#include "template/arguments.h"
#include "template/attributes.h"
#include "template/filters.h"
#include "template/methods.h"
#include "template/paths.h"
#include "template/tests.h"

namespace moe::jinja {
namespace {

// The arguments behind the first `count`.
Arguments rest_of(const Arguments& arguments, size_t count) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(count), arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

const std::string& name_of(const Value& value, const char* what) {
  value.require_defined();
  if (!value.is_string()) fail("{} needs the name as a string, found '{}'", what, type_name(value));
  return value.text();
}

Value map(const Value& value, const Arguments& arguments) {
  Values mapped;
  if (!value.truth()) return Value::generator({});
  if (!arguments.positional.empty()) {
    const std::string& filter = name_of(arguments.positional[0], "map");
    const Arguments rest = rest_of(arguments, 1);
    for (const Value& item : items_of(value)) mapped.push_back(apply_filter(filter, item, rest));
    return Value::generator(std::move(mapped));
  }
  const Bound bound(arguments, "map", {"attribute", "default"});
  if (bound[0] == nullptr) fail("map requires a filter argument");
  const Path path(bound.required(0));
  for (const Value& item : items_of(value)) {
    Value member = path.of(item);
    mapped.push_back(member.is_undefined() && bound.given(1) != nullptr ? *bound[1] : std::move(member));
  }
  return Value::generator(std::move(mapped));
}

template <bool wanted, bool of_member>
Value select(const Value& value, const Arguments& arguments) {
  if (!value.truth()) return Value::generator({});
  constexpr size_t before = of_member ? 1 : 0;
  const auto& given = arguments.positional;
  if (given.size() < before) fail("Missing parameter for attribute name");
  const Path path = of_member ? Path(given[0]) : Path();
  const bool tests = given.size() > before;
  const Arguments rest = tests ? rest_of(arguments, before + 1) : Arguments{};
  Values chosen;
  for (const Value& item : items_of(value)) {
    const Value member = path.of(item);
    const bool holds = tests ? apply_test(name_of(given[before], "select"), member, rest) : member.truth();
    if (holds == wanted) chosen.push_back(item);
  }
  return Value::generator(std::move(chosen));
}

// Attributes alone, not the members of a dictionary.
Value attr(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "attr", {"name"}, 1);
  const std::string_view name = bound.text(0, {});
  value.require_defined();
  if (value.is(Type::dict) && find_method(value, name) == nullptr) {
    return Value::undefined(fmt::format("'dict' has no attribute '{}'", name));
  }
  return get_attribute(value, name);
}

}  // namespace

std::vector<Filter> choice_filters() {
  return {{"attr", attr},
          {"map", map},
          {"reject", select<false, false>},
          {"rejectattr", select<false, true>},
          {"select", select<true, false>},
          {"selectattr", select<true, true>}};
}

}  // namespace moe::jinja
