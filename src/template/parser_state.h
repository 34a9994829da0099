#pragma once
/// The state that both halves of the parser share: the tokens, the names, and the mistakes found.

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "template/ast.h"
#include "template/lexer.h"

namespace moe::jinja {

/// For one thread at a time.
class ParserState {
 public:
  explicit ParserState(std::string_view source) : tokens_(lex(source)) {}

 protected:
  // A macro or call block that is being parsed: does it use what a caller passes beyond its parameters?
  struct MacroUse {
    bool caller = false, named = false, positional = false;
  };

  // An unknown filter or test. Inside a condition it is an error only when it is reached.
  struct Unknown {
    int line;
    std::string reason;
    bool certain;  // outside all conditions that are still open
  };

  // The depth of what is being parsed. The stack of a thread is limited.
  class Nesting {
   public:
    explicit Nesting(ParserState& state) : state_(state) {
      if (++state_.depth_ > kDeepest) fail_syntax(state_.token().line, "parts inside more than {} others", kDeepest);
    }
    ~Nesting() { --state_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    static constexpr int kDeepest = 200;
    ParserState& state_;
  };

  const LexedToken& token() const { return tokens_[at_]; }
  const LexedToken& token_after() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  LexedToken take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is(Token kind) const { return token().kind == kind; }
  bool is_symbol(std::string_view symbol) const { return is(Token::symbol) && token().text == symbol; }
  bool is_name(std::string_view name) const { return is(Token::name) && token().text == name; }
  bool skip_symbol(std::string_view symbol) { return is_symbol(symbol) && (take(), true); }
  bool skip_name(std::string_view name) { return is_name(name) && (take(), true); }
  void expect_symbol(std::string_view symbol);
  void expect_name(std::string_view name);
  void expect_end_of_block();
  std::string take_name();
  /// The token as errors show it.
  std::string shown() const;

  int name_number(const std::string& name);

  // From entry `since` on: removes the mistakes that a condition hides, and marks those that it no longer can hide.
  void forgive(size_t since);
  void make_certain(size_t since);

  std::vector<std::string> names_;
  std::vector<MacroUse> macros_;
  std::vector<Unknown> unknown_;

 private:
  std::vector<LexedToken> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  std::unordered_map<std::string, int> numbers_;
};

/// Parts of an expression, in order; absent ones are null.
template <class... Parts>
std::vector<ExpressionPointer> parts_of(Parts... parts) {
  std::vector<ExpressionPointer> all;
  (all.push_back(std::move(parts)), ...);
  return all;
}

/// Parses expressions, with jinja2's grammar. For one thread at a time.
class ExpressionParser : public ParserState {
 public:
  using ParserState::ParserState;

 protected:
  ExpressionPointer expression(bool with_condition = true);
  /// An expression, or a tuple without brackets; `end` is a name that ends it.
  ExpressionPointer tuple(bool with_condition = true, bool in_brackets = false, std::string_view end = {});
  /// Filters after `value`, which may be null; with `at_once`, the first one without a bar.
  ExpressionPointer filters(ExpressionPointer value, bool at_once);
  Target target(std::string_view end, bool with_member);
  Target name_target();

 private:
  ExpressionPointer make(Operation operation, int line, std::vector<ExpressionPointer> parts = {});
  ExpressionPointer literal(Value value, int line);
  ExpressionPointer condition();
  ExpressionPointer logical_or();
  ExpressionPointer logical_and();
  ExpressionPointer logical_not();
  ExpressionPointer comparison();
  ExpressionPointer sum();
  ExpressionPointer concatenation();
  ExpressionPointer product();
  ExpressionPointer power();
  ExpressionPointer unary(bool with_filters = true);
  ExpressionPointer primary();
  ExpressionPointer list();
  ExpressionPointer dictionary();
  ExpressionPointer postfix(ExpressionPointer value);
  ExpressionPointer subscript(ExpressionPointer value);
  ExpressionPointer subscribed();
  ExpressionPointer call(ExpressionPointer callee);
  ExpressionPointer filters_and_tests(ExpressionPointer value);
  ExpressionPointer test(ExpressionPointer value);
  CallArguments arguments(int& height);
  std::string dotted_name();
  bool ends_tuple(std::string_view end) const;
  Target single_target(bool with_member);
};

}  // namespace moe::jinja
