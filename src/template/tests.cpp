#include "template/tests.h"

#include <unordered_map>

#include "base/error.h"
#include "template/arguments.h"
#include "template/filters.h"
#include "template/methods.h"
#include "template/operators.h"
#include "template/python_text.h"

namespace moe::jinja {
namespace {

using TestFunction = bool (*)(const Value& value, const Arguments& arguments);

const Value& only(const Arguments& arguments) {
  const Bound bound(arguments, "the test", {"other"}, 1);
  return bound.required(0);
}

// A test of the value alone.
template <bool (*holds)(const Value&)>
bool alone(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "the test", {});
  return holds(value);
}

template <Type type>
bool of_type(const Value& value) {
  return value.is(type);
}

bool defined(const Value& value) { return !value.is_undefined(); }
bool is_true(const Value& value) { return value.is(Type::boolean) && value.boolean(); }
bool is_false(const Value& value) { return value.is(Type::boolean) && !value.boolean(); }
bool number(const Value& value) { return value.is_number(); }
bool escaped(const Value& value) { return value.is_markup(); }
bool callable(const Value& value) { return value.is(Type::callable); }
bool known_filter(const Value& value) { return value.is_string() && is_filter(value.text()); }
bool known_test(const Value& value) { return value.is_string() && is_test(value.text()); }

bool has_rest(const Value& value, const Value& divisor, int64_t rest) {
  return equal(modulo(value, divisor), Value(rest));
}
bool odd(const Value& value) { return has_rest(value, Value(int64_t{2}), 1); }
bool even(const Value& value) { return has_rest(value, Value(int64_t{2}), 0); }
bool divisible(const Value& value, const Arguments& arguments) { return has_rest(value, only(arguments), 0); }

bool sequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is(Type::list) || value.is(Type::tuple) ||
         value.is(Type::range) || value.is(Type::dict);
}

bool cased(const Value& value, const char* method) {
  return find_string_method(method)->function(Value(as_text(value)), {}).boolean();
}
bool lower(const Value& value) { return cased(value, "islower"); }
bool upper(const Value& value) { return cased(value, "isupper"); }

bool same(const Value& value, const Arguments& arguments) {
  const Value& other = only(arguments);
  if (value.type() != other.type()) return false;
  const bool plain = value.is(Type::none) || value.is_number() || value.is_string();
  return plain ? equal(value, other) : value.shared() == other.shared();
}

bool equals(const Value& value, const Arguments& arguments) { return equal(value, only(arguments)); }
bool differs(const Value& value, const Arguments& arguments) { return !equal(value, only(arguments)); }
bool inside(const Value& value, const Arguments& arguments) { return contains(only(arguments), value); }
bool less(const Value& value, const Arguments& arguments) { return compare(value, only(arguments), "<") == -1; }
bool greater(const Value& value, const Arguments& arguments) { return compare(value, only(arguments), ">") == 1; }
bool at_most(const Value& value, const Arguments& arguments) {
  const int order = compare(value, only(arguments), "<=");
  return order == -1 || order == 0;
}
bool at_least(const Value& value, const Arguments& arguments) {
  const int order = compare(value, only(arguments), ">=");
  return order == 1 || order == 0;
}

const std::unordered_map<std::string_view, TestFunction>& table() {
  static const std::unordered_map<std::string_view, TestFunction> all = {{"odd", alone<odd>},
                                                                         {"even", alone<even>},
                                                                         {"divisibleby", divisible},
                                                                         {"defined", alone<defined>},
                                                                         {"undefined", alone<of_type<Type::undefined>>},
                                                                         {"filter", alone<known_filter>},
                                                                         {"test", alone<known_test>},
                                                                         {"none", alone<of_type<Type::none>>},
                                                                         {"boolean", alone<of_type<Type::boolean>>},
                                                                         {"false", alone<is_false>},
                                                                         {"true", alone<is_true>},
                                                                         {"integer", alone<of_type<Type::integer>>},
                                                                         {"float", alone<of_type<Type::real>>},
                                                                         {"lower", alone<lower>},
                                                                         {"upper", alone<upper>},
                                                                         {"string", alone<of_type<Type::string>>},
                                                                         {"mapping", alone<of_type<Type::dict>>},
                                                                         {"number", alone<number>},
                                                                         {"sequence", alone<sequence>},
                                                                         {"iterable", alone<can_iterate>},
                                                                         {"callable", alone<callable>},
                                                                         {"sameas", same},
                                                                         {"escaped", alone<escaped>},
                                                                         {"in", inside},
                                                                         {"eq", equals},
                                                                         {"equalto", equals},
                                                                         {"==", equals},
                                                                         {"ne", differs},
                                                                         {"!=", differs},
                                                                         {"lt", less},
                                                                         {"lessthan", less},
                                                                         {"<", less},
                                                                         {"le", at_most},
                                                                         {"<=", at_most},
                                                                         {"gt", greater},
                                                                         {"greaterthan", greater},
                                                                         {">", greater},
                                                                         {"ge", at_least},
                                                                         {">=", at_least}};
  return all;
}

}  // namespace

bool is_test(std::string_view name) { return table().contains(name); }

bool apply_test(std::string_view name, const Value& value, const Arguments& arguments) {
  spend(1);
  const auto found = table().find(name);
  if (found == table().end()) fail("there is no test \"{}\"", name);
  return found->second(value, arguments);
}

}  // namespace moe::jinja
