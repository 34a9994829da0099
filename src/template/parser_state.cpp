#include "template/parser_state.h"

#include <algorithm>

namespace moe::jinja {

void ParserState::expect_symbol(std::string_view symbol) {
  if (!skip_symbol(symbol)) fail_syntax(token().line, "found {}, expected '{}'", shown(), symbol);
}

void ParserState::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_syntax(token().line, "found {}, expected '{}'", shown(), name);
}

void ParserState::expect_end_of_block() {
  if (!is(Token::block_end)) fail_syntax(token().line, "found {}, expected the end of the block", shown());
  take();
}

std::string ParserState::take_name() {
  if (!is(Token::name)) fail_syntax(token().line, "found {}, expected a name", shown());
  return take().text;
}

std::string ParserState::shown() const {
  switch (token().kind) {
    case Token::data:
      return "text";
    case Token::variable_begin:
      return "'{{'";
    case Token::variable_end:
      return "'}}'";
    case Token::block_begin:
      return "'{%'";
    case Token::block_end:
      return "'%}'";
    case Token::string:
      return "a string";
    case Token::integer:
    case Token::real:
      return "a number";
    case Token::end:
      return "the end of the template";
    default:
      return "'" + token().text + "'";
  }
}

int ParserState::name_number(const std::string& name) {
  const auto [at, added] = numbers_.emplace(name, static_cast<int>(names_.size()));
  if (added) names_.push_back(name);
  return at->second;
}

void ParserState::forgive(size_t since) {
  const auto first = unknown_.begin() + static_cast<std::ptrdiff_t>(std::min(since, unknown_.size()));
  unknown_.erase(std::remove_if(first, unknown_.end(), [](const Unknown& each) { return !each.certain; }),
                 unknown_.end());
}

void ParserState::make_certain(size_t since) {
  for (size_t i = since; i < unknown_.size(); ++i) unknown_[i].certain = true;
}

}  // namespace moe::jinja
