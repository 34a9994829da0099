#include "template/methods.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "template/arguments.h"
#include "template/python_text.h"

namespace moe::jinja {
namespace {

Value dict_get(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "get", {"key", "default"}, 1);
  require_hashable(bound.required(0));
  const Value* found = self.dict().find(bound.required(0));
  if (found != nullptr) return *found;
  return bound[1] != nullptr ? *bound[1] : Value::none();
}

template <class Each>
Value dict_view(const Value& self, const Arguments& arguments, const char* kind, Each each) {
  const Bound bound(arguments, kind, {});
  Values values;
  for (const auto& entry : self.dict().entries) values.push_back(each(entry));
  return Value(Type::view, std::make_shared<View>(std::move(values), kind));
}

Value dict_items(const Value& self, const Arguments& arguments) {
  return dict_view(self, arguments, "dict_items", [](const auto& e) { return Value::tuple({e.first, e.second}); });
}

Value dict_keys(const Value& self, const Arguments& arguments) {
  return dict_view(self, arguments, "dict_keys", [](const auto& e) { return e.first; });
}

Value dict_values(const Value& self, const Arguments& arguments) {
  return dict_view(self, arguments, "dict_values", [](const auto& e) { return e.second; });
}

Value copy(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "copy", {});
  return self;
}

Value list_count(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "count", {"value"}, 1);
  const Values& items = self.items();
  return Value(static_cast<int64_t>(
      std::count_if(items.begin(), items.end(), [&](const Value& each) { return equal(each, bound.required(0)); })));
}

Value list_index(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "index", {"value", "start", "stop"}, 1);
  const auto size = static_cast<int64_t>(self.items().size());
  const auto at = [&](int64_t index) { return std::clamp<int64_t>(index < 0 ? index + size : index, 0, size); };
  const int64_t end = at(bound.integer(2, size));
  for (int64_t i = at(bound.integer(1, 0)); i < end; ++i) {
    if (equal(self.items()[static_cast<size_t>(i)], bound.required(0))) return Value(i);
  }
  fail("{} is not in the list", shown(bound.required(0)));
}

Value is_integer(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "is_integer", {});
  return Value(self.is_integral() || (std::isfinite(self.real()) && self.real() == std::trunc(self.real())));
}

constexpr std::array<Method, 11> kDict = {{{"get", dict_get},
                                           {"items", dict_items},
                                           {"keys", dict_keys},
                                           {"values", dict_values},
                                           {"copy", copy},
                                           {"fromkeys", nullptr},
                                           {"clear", nullptr, true},
                                           {"pop", nullptr, true},
                                           {"popitem", nullptr, true},
                                           {"setdefault", nullptr, true},
                                           {"update", nullptr, true}}};

constexpr std::array<Method, 11> kList = {{{"count", list_count},
                                           {"index", list_index},
                                           {"copy", copy},
                                           {"append", nullptr, true},
                                           {"clear", nullptr, true},
                                           {"extend", nullptr, true},
                                           {"insert", nullptr, true},
                                           {"pop", nullptr, true},
                                           {"remove", nullptr, true},
                                           {"reverse", nullptr, true},
                                           {"sort", nullptr, true}}};

constexpr std::array<Method, 2> kTuple = {{{"count", list_count}, {"index", list_index}}};

constexpr std::array<Method, 9> kNumber = {{{"is_integer", is_integer},
                                            {"as_integer_ratio", nullptr},
                                            {"bit_length", nullptr},
                                            {"conjugate", nullptr},
                                            {"denominator", nullptr},
                                            {"imag", nullptr},
                                            {"numerator", nullptr},
                                            {"real", nullptr},
                                            {"to_bytes", nullptr}}};

template <size_t N>
const Method* find_in(const std::array<Method, N>& methods, std::string_view name) {
  const auto found = std::find_if(methods.begin(), methods.end(), [&](const Method& m) { return m.name == name; });
  return found == methods.end() ? nullptr : &*found;
}

}  // namespace

const Method* find_method(const Value& value, std::string_view name) {
  switch (value.type()) {
    case Type::string:
      return find_string_method(name);
    case Type::dict:
      return find_in(kDict, name);
    case Type::list:
      return find_in(kList, name);
    case Type::tuple:
    case Type::range:
      return find_in(kTuple, name);
    case Type::boolean:
    case Type::integer:
      // Integers have is_integer only since Python 3.12, so templates cannot rely on it.
      return name == "is_integer" ? nullptr : find_in(kNumber, name);
    case Type::real:
      return find_in(kNumber, name);
    default:
      return nullptr;
  }
}

bool is_python_attribute(std::string_view name) {
  constexpr std::array<std::string_view, 20> kCommon = {
      "__class__",        "__delattr__", "__dir__",  "__doc__",     "__eq__",     "__format__", "__ge__",
      "__getattribute__", "__gt__",      "__hash__", "__init__",    "__le__",     "__lt__",     "__ne__",
      "__new__",          "__reduce__",  "__repr__", "__setattr__", "__sizeof__", "__str__"};
  return std::find(kCommon.begin(), kCommon.end(), name) != kCommon.end();
}

bool is_group_tuple(const Value& value) { return dynamic_cast<const GroupTuple*>(value.shared().get()) != nullptr; }

}  // namespace moe::jinja
