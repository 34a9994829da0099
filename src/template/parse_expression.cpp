#include <algorithm>
#include <array>

#include "template/parser_state.h"

namespace moe::jinja {
namespace {

constexpr int kHighest = 1000;

constexpr std::array<std::pair<std::string_view, Comparison>, 6> kComparisons = {
    {{"==", Comparison::equal},
     {"!=", Comparison::not_equal},
     {"<", Comparison::less},
     {"<=", Comparison::less_or_equal},
     {">", Comparison::greater},
     {">=", Comparison::greater_or_equal}}};

}  // namespace

ExpressionPointer ExpressionParser::make(Operation operation, int line, std::vector<ExpressionPointer> parts) {
  auto made = std::make_unique<Expression>(Expression{operation, line});
  for (const ExpressionPointer& part : parts) {
    if (part != nullptr) made->height = std::max(made->height, 1 + part->height);
  }
  made->parts = std::move(parts);
  if (made->height > kHighest) fail_syntax(line, "an expression of more than {} levels", kHighest);
  return made;
}

ExpressionPointer ExpressionParser::literal(Value value, int line) {
  ExpressionPointer made = make(Operation::constant, line);
  made->constant = std::move(value);
  return made;
}

ExpressionPointer ExpressionParser::expression(bool with_condition) {
  const Nesting nesting(*this);
  return with_condition ? condition() : logical_or();
}

ExpressionPointer ExpressionParser::condition() {
  const Nesting nesting(*this);
  const size_t unknown_before = unknown_.size();
  const int line = token().line;
  ExpressionPointer value = logical_or();
  while (skip_name("if")) {
    ExpressionPointer test = logical_or();
    ExpressionPointer other = skip_name("else") ? condition() : nullptr;
    value = make(Operation::conditional, line, parts_of(std::move(test), std::move(value), std::move(other)));
    forgive(unknown_before);
  }
  return value;
}

ExpressionPointer ExpressionParser::logical_or() {
  ExpressionPointer left = logical_and();
  while (is_name("or")) {
    const int line = take().line;
    left = make(Operation::logical_or, line, parts_of(std::move(left), logical_and()));
  }
  return left;
}

ExpressionPointer ExpressionParser::logical_and() {
  ExpressionPointer left = logical_not();
  while (is_name("and")) {
    const int line = take().line;
    left = make(Operation::logical_and, line, parts_of(std::move(left), logical_not()));
  }
  return left;
}

ExpressionPointer ExpressionParser::logical_not() {
  const Nesting nesting(*this);
  if (!is_name("not")) return comparison();
  const int line = take().line;
  return make(Operation::logical_not, line, parts_of(logical_not()));
}

ExpressionPointer ExpressionParser::comparison() {
  const int line = token().line;
  ExpressionPointer first = sum();
  std::vector<ExpressionPointer> parts;
  std::vector<Comparison> comparisons;
  for (;;) {
    const auto known =
        std::find_if(kComparisons.begin(), kComparisons.end(), [&](const auto& each) { return is_symbol(each.first); });
    if (known != kComparisons.end()) {
      take();
      comparisons.push_back(known->second);
    } else if (skip_name("in")) {
      comparisons.push_back(Comparison::in);
    } else if (is_name("not") && token_after().kind == Token::name && token_after().text == "in") {
      take();
      take();
      comparisons.push_back(Comparison::not_in);
    } else {
      break;
    }
    if (parts.empty()) parts.push_back(std::move(first));
    parts.push_back(sum());
  }
  if (comparisons.empty()) return first;
  ExpressionPointer made = make(Operation::compare, line, std::move(parts));
  made->comparisons = std::move(comparisons);
  return made;
}

ExpressionPointer ExpressionParser::sum() {
  ExpressionPointer left = concatenation();
  while (is_symbol("+") || is_symbol("-")) {
    const LexedToken symbol = take();
    left = make(symbol.text == "+" ? Operation::add : Operation::subtract, symbol.line,
                parts_of(std::move(left), concatenation()));
  }
  return left;
}

ExpressionPointer ExpressionParser::concatenation() {
  const int line = token().line;
  std::vector<ExpressionPointer> parts;
  do parts.push_back(product());
  while (skip_symbol("~"));
  if (parts.size() == 1) return std::move(parts.front());
  return make(Operation::concatenate, line, std::move(parts));
}

ExpressionPointer ExpressionParser::product() {
  ExpressionPointer left = power();
  while (is_symbol("*") || is_symbol("/") || is_symbol("//") || is_symbol("%")) {
    const LexedToken symbol = take();
    const Operation operation = symbol.text == "*"    ? Operation::multiply
                                : symbol.text == "/"  ? Operation::divide
                                : symbol.text == "//" ? Operation::floor_divide
                                                      : Operation::modulo;
    left = make(operation, symbol.line, parts_of(std::move(left), power()));
  }
  return left;
}

ExpressionPointer ExpressionParser::power() {
  ExpressionPointer left = unary();
  while (is_symbol("**")) {
    const int line = take().line;
    left = make(Operation::power, line, parts_of(std::move(left), unary()));
  }
  return left;
}

ExpressionPointer ExpressionParser::unary(bool with_filters) {
  const Nesting nesting(*this);
  ExpressionPointer value;
  if (is_symbol("-") || is_symbol("+")) {
    const LexedToken symbol = take();
    value = make(symbol.text == "-" ? Operation::negate : Operation::plus, symbol.line, parts_of(unary(false)));
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filters ? filters_and_tests(std::move(value)) : std::move(value);
}

ExpressionPointer ExpressionParser::primary() {
  const int line = token().line;
  if (is(Token::name)) {
    const std::string name = take().text;
    if (name == "true" || name == "True") return literal(Value(true), line);
    if (name == "false" || name == "False") return literal(Value(false), line);
    if (name == "none" || name == "None") return literal(Value::none(), line);
    ExpressionPointer made = make(Operation::name, line);
    made->name = name_number(name);
    for (MacroUse& use : macros_) {
      use.caller |= name == "caller";
      use.named |= name == "kwargs";
      use.positional |= name == "varargs";
    }
    return made;
  }
  if (is(Token::string)) {
    std::string text = take().text;
    while (is(Token::string)) text += take().text;
    return literal(Value(std::move(text)), line);
  }
  if (is(Token::integer)) return literal(Value(take().integer), line);
  if (is(Token::real)) return literal(Value(take().real), line);
  if (skip_symbol("(")) {
    ExpressionPointer inside = tuple(true, true);
    expect_symbol(")");
    return inside;
  }
  if (is_symbol("[")) return list();
  if (is_symbol("{")) return dictionary();
  fail_syntax(line, "found {}, expected an expression", shown());
}

bool ExpressionParser::ends_tuple(std::string_view end) const {
  return is(Token::variable_end) || is(Token::block_end) || is_symbol(")") || (!end.empty() && is_name(end));
}

ExpressionPointer ExpressionParser::tuple(bool with_condition, bool in_brackets, std::string_view end) {
  const int line = token().line;
  std::vector<ExpressionPointer> parts;
  bool is_tuple = false;
  while (!ends_tuple(end)) {
    parts.push_back(expression(with_condition));
    if (!skip_symbol(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !parts.empty()) return std::move(parts.front());
  if (!is_tuple && !in_brackets) fail_syntax(line, "found {}, expected an expression", shown());
  return make(Operation::tuple, line, std::move(parts));
}

ExpressionPointer ExpressionParser::list() {
  const int line = take().line;
  std::vector<ExpressionPointer> parts;
  while (!is_symbol("]")) {
    if (!parts.empty()) expect_symbol(",");
    if (is_symbol("]")) break;
    parts.push_back(expression());
  }
  expect_symbol("]");
  return make(Operation::list, line, std::move(parts));
}

ExpressionPointer ExpressionParser::dictionary() {
  const int line = take().line;
  std::vector<ExpressionPointer> parts;
  while (!is_symbol("}")) {
    if (!parts.empty()) expect_symbol(",");
    if (is_symbol("}")) break;
    parts.push_back(expression());
    expect_symbol(":");
    parts.push_back(expression());
  }
  expect_symbol("}");
  return make(Operation::dict, line, std::move(parts));
}

Target ExpressionParser::name_target() {
  if (!is(Token::name)) fail_syntax(token().line, "found {}, expected a name", shown());
  const LexedToken name = take();
  constexpr std::array<std::string_view, 6> kLiterals = {"true", "false", "none", "True", "False", "None"};
  if (std::find(kLiterals.begin(), kLiterals.end(), name.text) != kLiterals.end()) {
    fail_syntax(name.line, "\"{}\" cannot be assigned to", name.text);
  }
  return {.name = name_number(name.text)};
}

Target ExpressionParser::single_target(bool with_member) {
  const Nesting nesting(*this);
  if (is_symbol("(")) {
    take();
    Target inside = target({}, with_member);
    expect_symbol(")");
    return inside;
  }
  if (!is(Token::name)) fail_syntax(token().line, "found {}, expected a name to assign to", shown());
  Target single = name_target();
  if (with_member && skip_symbol(".")) single.member = take_name();
  return single;
}

Target ExpressionParser::target(std::string_view end, bool with_member) {
  const int line = token().line;
  Target all;
  while (!ends_tuple(end)) {
    all.parts.push_back(single_target(with_member));
    if (!skip_symbol(",")) break;
    all.is_tuple = true;
  }
  if (all.parts.empty()) fail_syntax(line, "found {}, expected a name to assign to", shown());
  if (!all.is_tuple) return Target(std::move(all.parts.front()));
  return all;
}

}  // namespace moe::jinja
