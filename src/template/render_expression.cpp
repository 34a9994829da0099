#include <memory>

#include "base/error.h"
#include "template/attributes.h"
#include "template/filters.h"
#include "template/operators.h"
#include "template/python_text.h"
#include "template/renderer.h"
#include "template/tests.h"

namespace moe::jinja {

Value Renderer::operation(const Expression& expression, const ScopePointer& scope) {
  const auto part = [&](size_t i) { return evaluate(*expression.parts[i], scope); };
  switch (expression.operation) {
    case Operation::constant:
      return expression.constant;
    case Operation::name:
      return lookup(expression.name, scope);
    case Operation::tuple:
    case Operation::list:
    case Operation::dict:
      return container(expression, scope);
    case Operation::attribute:
      return get_attribute(part(0), expression.text);
    case Operation::item:
      return item(expression, scope);
    case Operation::slice:
      fail("slices of several parts are not supported");
    case Operation::call:
      return call(expression, scope);
    case Operation::filter:
      return filtered(expression, scope);
    case Operation::test: {
      Values alive;
      const Value value = part(0);
      const Arguments given = arguments(expression.arguments, scope, alive);
      return Value(apply_test(expression.text, value, given));
    }
    case Operation::negate:
      return negative(part(0));
    case Operation::plus:
      return positive(part(0));
    case Operation::logical_not:
      return Value(!part(0).truth());
    case Operation::logical_and: {
      Value left = part(0);
      return left.truth() ? part(1) : left;
    }
    case Operation::logical_or: {
      Value left = part(0);
      return left.truth() ? left : part(1);
    }
    case Operation::concatenate:
      return concatenated(expression, scope);
    case Operation::compare:
      return compared(expression, scope);
    case Operation::conditional:
      return conditional(expression, scope);
    default:
      return arithmetic(expression, scope);
  }
}

Value Renderer::arithmetic(const Expression& expression, const ScopePointer& scope) {
  const Value a = evaluate(*expression.parts[0], scope), b = evaluate(*expression.parts[1], scope);
  switch (expression.operation) {
    case Operation::add:
      return add(a, b);
    case Operation::subtract:
      return subtract(a, b);
    case Operation::multiply:
      return multiply(a, b);
    case Operation::divide:
      return divide(a, b);
    case Operation::floor_divide:
      return floor_divide(a, b);
    case Operation::modulo:
      return modulo(a, b);
    default:
      return power(a, b);
  }
}

Value Renderer::container(const Expression& expression, const ScopePointer& scope) {
  const auto& parts = expression.parts;
  if (expression.operation == Operation::dict) {
    auto dict = std::make_shared<Dict>();
    for (size_t i = 0; i < parts.size(); i += 2) {
      Value key = evaluate(*parts[i], scope);
      dict->set(std::move(key), evaluate(*parts[i + 1], scope));
    }
    return Value::dict(std::move(dict));
  }
  Values items;
  items.reserve(parts.size());
  for (const ExpressionPointer& part : parts) items.push_back(evaluate(*part, scope));
  return expression.operation == Operation::list ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value Renderer::item(const Expression& expression, const ScopePointer& scope) {
  const Value value = evaluate(*expression.parts[0], scope);
  const Expression& index = *expression.parts[1];
  if (index.operation != Operation::slice) return get_item(value, evaluate(index, scope));
  const auto bound = [&](size_t i) {
    return index.parts[i] == nullptr ? Value::none() : evaluate(*index.parts[i], scope);
  };
  const Value begin = bound(0), end = bound(1), step = bound(2);
  return get_slice(value, begin, end, step);
}

Value Renderer::concatenated(const Expression& expression, const ScopePointer& scope) {
  std::string text;
  for (const ExpressionPointer& part : expression.parts) {
    const Value value = evaluate(*part, scope);
    if (value.is_string()) {
      need_room(text.size() + value.text().size());
      text += value.text();
    } else {
      text += as_text(value);
    }
  }
  return Value(std::move(text));
}

Value Renderer::conditional(const Expression& expression, const ScopePointer& scope) {
  if (evaluate(*expression.parts[0], scope).truth()) return evaluate(*expression.parts[1], scope);
  if (expression.parts[2] != nullptr) return evaluate(*expression.parts[2], scope);
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined.");
}

namespace {

bool holds(Comparison comparison, const Value& a, const Value& b) {
  switch (comparison) {
    case Comparison::equal:
      return equal(a, b);
    case Comparison::not_equal:
      return !equal(a, b);
    case Comparison::in:
      return contains(b, a);
    case Comparison::not_in:
      return !contains(b, a);
    case Comparison::less:
      return compare(a, b, "<") == -1;
    case Comparison::greater:
      return compare(a, b, ">") == 1;
    case Comparison::less_or_equal: {
      const int order = compare(a, b, "<=");
      return order == -1 || order == 0;
    }
    case Comparison::greater_or_equal: {
      const int order = compare(a, b, ">=");
      return order == 1 || order == 0;
    }
  }
  return false;
}

}  // namespace

Value Renderer::compared(const Expression& expression, const ScopePointer& scope) {
  Value left = evaluate(*expression.parts[0], scope);
  for (size_t i = 0; i < expression.comparisons.size(); ++i) {
    Value right = evaluate(*expression.parts[i + 1], scope);
    if (!holds(expression.comparisons[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Arguments Renderer::arguments(const CallArguments& given, const ScopePointer& scope, Values& alive) {
  Arguments result;
  result.positional.reserve(given.positional.size());
  for (const ExpressionPointer& each : given.positional) result.positional.push_back(evaluate(*each, scope));
  if (given.more_positional != nullptr) {
    for (Value& each : items_of(evaluate(*given.more_positional, scope))) result.positional.push_back(std::move(each));
  }
  for (const NamedArgument& each : given.named) result.named.emplace_back(each.name, evaluate(*each.value, scope));
  if (given.more_named != nullptr) {
    alive.push_back(evaluate(*given.more_named, scope));
    alive.back().require_defined();
    if (!alive.back().is(Type::dict)) fail("argument after ** must be a mapping, not {}", type_name(alive.back()));
    for (const auto& [key, value] : alive.back().dict().entries) {
      if (!key.is_string()) fail("keywords must be strings");
      for (const auto& [name, unused] : result.named) {
        if (name == key.text()) fail("got multiple values for keyword argument '{}'", name);
      }
      result.named.emplace_back(key.text(), value);
    }
  }
  return result;
}

Value Renderer::call(const Expression& expression, const ScopePointer& scope, const Value* caller) {
  const Value callee = evaluate(*expression.parts[0], scope);
  Values alive;
  Arguments given = arguments(expression.arguments, scope, alive);
  if (caller != nullptr) given.named.emplace_back("caller", *caller);
  callee.require_defined();
  const bool can_call = callee.is(Type::callable) || callee.is(Type::object);
  if (!can_call) fail("'{}' object is not callable", type_name(callee));
  const int line = std::exchange(line_, expression.line);
  Value result = callee.object().call(given);
  line_ = line;
  return result;
}

Value Renderer::filtered(const Expression& expression, const ScopePointer& scope, const Value* input) {
  const Expression* inside = expression.parts[0].get();
  Value value = inside == nullptr  ? *input
                : input == nullptr ? evaluate(*inside, scope)
                                   : filtered(*inside, scope, input);
  Values alive;
  const Arguments given = arguments(expression.arguments, scope, alive);
  return apply_filter(expression.text, value, given);
}

}  // namespace moe::jinja
