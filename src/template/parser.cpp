#include "template/parser.h"

#include <algorithm>

#include "template/parser_state.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

using Ends = std::vector<std::string_view>;

std::unique_ptr<Statement> statement_at(Action action, int line) {
  return std::make_unique<Statement>(Statement{action, line});
}

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Parsed run() {
    Parsed parsed;
    parsed.body = statements({}, 1);
    make_certain(0);
    for (const Unknown& each : unknown_) fail_syntax(each.line, "{}", each.reason);
    parsed.names = std::move(names_);
    return parsed;
  }

 private:
  // Up to one of the tags `ends`, whose name is the next token then, or to the end of the template. `begun` is the line
  // of the tag before.
  Body statements(const Ends& ends, int begun) {
    const Nesting nesting(*this);
    Body body;
    for (;;) {
      if (is(Token::end)) {
        if (ends.empty()) return body;
        fail_syntax(token().line, "the template ends inside a block that began at line {}; expected {{% {} %}}", begun,
                    fmt::join(ends, " or "));
      }
      if (is(Token::data)) {
        auto text = statement_at(Action::text, token().line);
        text->data = take().text;
        body.push_back(std::move(text));
      } else if (is(Token::variable_begin)) {
        auto print = statement_at(Action::print, take().line);
        print->expression = tuple();
        if (!is(Token::variable_end)) fail_syntax(token().line, "found {}, expected '}}}}'", shown());
        take();
        body.push_back(std::move(print));
      } else {
        take();  // block_begin
        const bool ended = is(Token::name) && std::find(ends.begin(), ends.end(), token().text) != ends.end();
        if (ended) return body;
        statement(body);
        expect_end_of_block();
      }
    }
  }

  // The body of a block, after its own tag. The tag that ends it is the next token.
  Body body_until(const Ends& ends) {
    skip_symbol(":");
    const int line = token().line;
    expect_end_of_block();
    return statements(ends, line);
  }

  Body body_to_end(std::string_view end) {
    Body body = body_until({end});
    take();
    return body;
  }

  void statement(Body& body) {
    if (!is(Token::name)) fail_syntax(token().line, "found {}, expected the name of a block", shown());
    const LexedToken tag = take();
    const std::string& name = tag.text;
    if (name == "set") return body.push_back(set(tag.line));
    if (name == "for") return body.push_back(loop(tag.line));
    if (name == "if") return body.push_back(if_else(tag.line));
    if (name == "macro") return body.push_back(macro(tag.line));
    if (name == "call") return body.push_back(call_block(tag.line));
    if (name == "filter") return body.push_back(filter_block(tag.line));
    if (name == "with") return body.push_back(with(tag.line));
    if (name == "print") return print(tag.line, body);
    if (name == "block") return body.push_back(block(tag.line));
    if (name == "generation") return body.push_back(generation(tag.line));
    if (name == "break" || name == "continue") return body.push_back(leave_loop(tag));
    if (name == "include" || name == "import" || name == "from" || name == "extends") {
      return body.push_back(unsupported(tag));
    }
    if (name == "autoescape")
      fail_syntax(tag.line, "the block autoescape is not supported; chat templates are no HTML");
    fail_syntax(tag.line, "there is no block \"{}\" here", name);
  }

  std::unique_ptr<Statement> set(int line) {
    Target to = target({}, true);
    auto made = statement_at(Action::assign, line);
    made->targets.push_back(std::move(to));
    if (skip_symbol("=")) {
      made->expression = tuple();
      return made;
    }
    made->action = Action::assign_block;
    made->expression = filters(nullptr, false);
    made->body = inner_body("endset");
    return made;
  }

  // A body with its own variables: an unknown name in it is certainly unknown.
  Body inner_body(std::string_view end) {
    const size_t unknown_before = unknown_.size();
    Body body = body_to_end(end);
    make_certain(unknown_before);
    return body;
  }

  void refuse_loop_as_target(const Target& to, int line) const {
    if (to.name >= 0 && names_[static_cast<size_t>(to.name)] == "loop") {
      fail_syntax(line, "a loop cannot assign to \"loop\", which is its own variable");
    }
    for (const Target& part : to.parts) refuse_loop_as_target(part, line);
  }

  std::unique_ptr<Statement> loop(int line) {
    auto made = statement_at(Action::loop, line);
    made->targets.push_back(target("in", false));
    refuse_loop_as_target(made->targets.front(), line);
    expect_name("in");
    made->expression = tuple(false, false, "recursive");
    const size_t unknown_before = unknown_.size();
    if (skip_name("if")) made->test = expression();
    made->recursive = skip_name("recursive");
    ++loops_;
    made->body = body_until({"endfor", "else"});
    --loops_;
    if (take().text == "else") made->other = body_to_end("endfor");
    make_certain(unknown_before);
    return made;
  }

  std::unique_ptr<Statement> if_else(int line) {
    const size_t unknown_before = unknown_.size();
    auto made = statement_at(Action::if_else, line);
    std::string ended_by;
    do {
      made->values.push_back(tuple(false));
      made->bodies.push_back(body_until({"elif", "else", "endif"}));
      ended_by = take().text;
    } while (ended_by == "elif");
    if (ended_by == "else") made->other = body_to_end("endif");
    forgive(unknown_before);
    return made;
  }

  void signature(Signature& made) {
    expect_symbol("(");
    while (!is_symbol(")")) {
      if (!made.parameters.empty()) expect_symbol(",");
      const int line = token().line;
      const Target parameter = name_target();
      const bool twice =
          std::find(made.parameters.begin(), made.parameters.end(), parameter.name) != made.parameters.end();
      if (twice) fail_syntax(line, "a macro's parameter occurs twice");
      if (skip_symbol("=")) {
        made.defaults.push_back(expression());
      } else if (!made.defaults.empty()) {
        fail_syntax(line, "a parameter without a default behind one with a default");
      }
      made.parameters.push_back(parameter.name);
      made.parameter_names.push_back(names_[static_cast<size_t>(parameter.name)]);
    }
    expect_symbol(")");
  }

  // A body that runs when it is called, independently of the loops around it.
  void macro_body(Statement& made, std::string_view end) {
    const int loops = loops_;
    loops_ = 0;
    macros_.push_back({});
    made.body = inner_body(end);
    loops_ = loops;
    const MacroUse use = macros_.back();
    macros_.pop_back();
    made.signature.uses_caller = use.caller;
    made.signature.uses_named = use.named;
    made.signature.uses_positional = use.positional;
  }

  std::unique_ptr<Statement> macro(int line) {
    auto made = statement_at(Action::macro, line);
    made->name = name_target().name;
    made->signature.name = names_[static_cast<size_t>(made->name)];
    signature(made->signature);
    macro_body(*made, "endmacro");
    return made;
  }

  std::unique_ptr<Statement> call_block(int line) {
    auto made = statement_at(Action::call_block, line);
    if (is_symbol("(")) signature(made->signature);
    made->expression = expression();
    if (made->expression->operation != Operation::call) fail_syntax(line, "a call block needs a call");
    macro_body(*made, "endcall");
    return made;
  }

  std::unique_ptr<Statement> generation(int line) {
    auto made = statement_at(Action::generation, line);
    macro_body(*made, "endgeneration");
    return made;
  }

  std::unique_ptr<Statement> filter_block(int line) {
    auto made = statement_at(Action::filter_block, line);
    const size_t unknown_before = unknown_.size();
    made->expression = filters(nullptr, true);
    made->body = body_to_end("endfilter");
    make_certain(unknown_before);
    return made;
  }

  std::unique_ptr<Statement> with(int line) {
    auto made = statement_at(Action::with, line);
    while (!is(Token::block_end)) {
      if (!made->targets.empty()) expect_symbol(",");
      made->targets.push_back(target({}, false));
      expect_symbol("=");
      made->values.push_back(expression());
    }
    made->body = inner_body("endwith");
    return made;
  }

  void print(int line, Body& body) {
    bool first = true;
    while (!is(Token::block_end)) {
      if (!first) expect_symbol(",");
      first = false;
      auto made = statement_at(Action::print, line);
      made->expression = expression();
      body.push_back(std::move(made));
    }
  }

  std::unique_ptr<Statement> block(int line) {
    auto made = statement_at(Action::block, line);
    const std::string name = take_name();
    if (std::find(blocks_.begin(), blocks_.end(), name) != blocks_.end()) {
      fail_syntax(line, "the block \"{}\" is defined twice", name);
    }
    blocks_.push_back(name);
    made->scoped = skip_name("scoped");
    const bool required = skip_name("required");
    const int loops = loops_;
    loops_ = 0;
    made->body = inner_body("endblock");
    loops_ = loops;
    const auto is_empty = [](const auto& each) {
      return each->action == Action::text && strip(each->data, true, false).empty();
    };
    if (required && !std::all_of(made->body.begin(), made->body.end(), is_empty)) {
      fail_syntax(line, "a required block can hold only comments and white space");
    }
    skip_name(name);
    return made;
  }

  std::unique_ptr<Statement> leave_loop(const LexedToken& tag) {
    if (loops_ == 0) fail_syntax(tag.line, "\"{}\" outside of a loop", tag.text);
    return statement_at(tag.text == "break" ? Action::break_loop : Action::continue_loop, tag.line);
  }

  // Another template cannot be loaded, so everything in the tag is skipped.
  std::unique_ptr<Statement> unsupported(const LexedToken& tag) {
    auto made = statement_at(Action::unsupported, tag.line);
    made->data = tag.text;
    expression();
    while (!is(Token::block_end) && !is(Token::end)) take();
    return made;
  }

  int loops_ = 0;  // loops around this place that break would leave
  std::vector<std::string> blocks_;
};

}  // namespace

Parsed parse(std::string_view source) { return Parser(source).run(); }

}  // namespace moe::jinja
