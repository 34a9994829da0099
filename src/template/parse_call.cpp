// The parts of an expression that follow a value: members, calls, filters and tests.

#include <algorithm>

#include "template/filters.h"
#include "template/parser_state.h"
#include "template/tests.h"

namespace moe::jinja {

ExpressionPointer ExpressionParser::postfix(ExpressionPointer value) {
  for (;;) {
    if (is_symbol(".") || is_symbol("[")) {
      value = subscript(std::move(value));
    } else if (is_symbol("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPointer ExpressionParser::subscript(ExpressionPointer value) {
  const LexedToken symbol = take();
  if (symbol.text == ".") {
    if (is(Token::integer)) {
      ExpressionPointer index = literal(Value(take().integer), symbol.line);
      return make(Operation::item, symbol.line, parts_of(std::move(value), std::move(index)));
    }
    if (!is(Token::name)) fail_syntax(token().line, "found {}, expected a name or a number behind '.'", shown());
    std::string name = take().text;
    ExpressionPointer made = make(Operation::attribute, symbol.line, parts_of(std::move(value)));
    made->text = std::move(name);
    return made;
  }
  std::vector<ExpressionPointer> indices;
  while (!is_symbol("]")) {
    if (!indices.empty()) expect_symbol(",");
    indices.push_back(subscribed());
  }
  expect_symbol("]");
  ExpressionPointer index =
      indices.size() == 1 ? std::move(indices.front()) : make(Operation::tuple, symbol.line, std::move(indices));
  return make(Operation::item, symbol.line, parts_of(std::move(value), std::move(index)));
}

ExpressionPointer ExpressionParser::subscribed() {
  const int line = token().line;
  ExpressionPointer begin;
  if (!is_symbol(":")) {
    begin = expression();
    if (!is_symbol(":")) return begin;
  }
  take();
  const auto bound = [&]() -> ExpressionPointer {
    return is_symbol(":") || is_symbol("]") || is_symbol(",") ? nullptr : expression();
  };
  ExpressionPointer end = bound();
  ExpressionPointer step = skip_symbol(":") ? bound() : nullptr;
  return make(Operation::slice, line, parts_of(std::move(begin), std::move(end), std::move(step)));
}

CallArguments ExpressionParser::arguments(int& height) {
  const int line = token().line;
  expect_symbol("(");
  CallArguments result;
  const auto added = [&]() {
    ExpressionPointer value = expression();
    height = std::max(height, 1 + value->height);
    return value;
  };
  bool first = true;
  while (!is_symbol(")")) {
    if (!first) expect_symbol(",");
    if (!first && is_symbol(")")) break;
    first = false;
    bool allowed = true;
    if (skip_symbol("*")) {
      allowed = result.more_positional == nullptr && result.more_named == nullptr;
      result.more_positional = added();
    } else if (skip_symbol("**")) {
      allowed = result.more_named == nullptr;
      result.more_named = added();
    } else if (is(Token::name) && token_after().kind == Token::symbol && token_after().text == "=") {
      std::string name = take().text;
      take();
      const auto same = [&](const NamedArgument& other) { return other.name == name; };
      allowed = result.more_named == nullptr && std::none_of(result.named.begin(), result.named.end(), same);
      result.named.push_back({std::move(name), added()});
    } else {
      allowed = result.more_positional == nullptr && result.more_named == nullptr && result.named.empty();
      result.positional.push_back(added());
    }
    if (!allowed) fail_syntax(line, "the arguments of a call are in the wrong order, or one of them twice");
  }
  expect_symbol(")");
  return result;
}

ExpressionPointer ExpressionParser::call(ExpressionPointer callee) {
  const int line = token().line;
  int height = 1;
  CallArguments given = arguments(height);
  ExpressionPointer made = make(Operation::call, line, parts_of(std::move(callee)));
  made->arguments = std::move(given);
  made->height = std::max(made->height, height);
  return made;
}

std::string ExpressionParser::dotted_name() {
  std::string name = take_name();
  while (skip_symbol(".")) name += fmt::format(".{}", take_name());
  return name;
}

ExpressionPointer ExpressionParser::filters(ExpressionPointer value, bool at_once) {
  while (at_once || is_symbol("|")) {
    if (!at_once) take();
    at_once = false;
    const int line = token().line;
    std::string name = dotted_name();
    if (!is_filter(name)) unknown_.push_back({line, "there is no filter \"" + name + "\"", false});
    int height = 1;
    CallArguments given = is_symbol("(") ? arguments(height) : CallArguments{};
    ExpressionPointer made = make(Operation::filter, line, parts_of(std::move(value)));
    made->text = std::move(name);
    made->arguments = std::move(given);
    made->height = std::max(made->height, height);
    value = std::move(made);
  }
  return value;
}

ExpressionPointer ExpressionParser::filters_and_tests(ExpressionPointer value) {
  for (;;) {
    if (is_symbol("|")) {
      value = filters(std::move(value), false);
    } else if (is_name("is")) {
      value = test(std::move(value));
    } else if (is_symbol("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPointer ExpressionParser::test(ExpressionPointer value) {
  const int line = take().line;
  const bool negated = skip_name("not");
  std::string name = dotted_name();
  if (!is_test(name)) unknown_.push_back({line, "there is no test \"" + name + "\"", false});
  int height = 1;
  CallArguments given;
  const bool literal_follows =
      is(Token::string) || is(Token::integer) || is(Token::real) || is_symbol("[") || is_symbol("{") || is(Token::name);
  if (is_symbol("(")) {
    given = arguments(height);
  } else if (literal_follows && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fail_syntax(token().line, "tests cannot be chained with \"is\"");
    given.positional.push_back(postfix(primary()));
    height = 1 + given.positional.back()->height;
  }
  ExpressionPointer made = make(Operation::test, line, parts_of(std::move(value)));
  made->text = std::move(name);
  made->arguments = std::move(given);
  made->height = std::max(made->height, height);
  return negated ? make(Operation::logical_not, line, parts_of(std::move(made))) : std::move(made);
}

}  // namespace moe::jinja
