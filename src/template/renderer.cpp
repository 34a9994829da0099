#include "template/renderer.h"

#include <algorithm>

#include "base/error.h"
#include "template/filters.h"
#include "template/functions.h"
#include "template/python_text.h"

namespace moe::jinja {

const Value* Scope::find(int name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [number, value] : scope->values) {
      if (number == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(int name, Value value) {
  for (auto& [number, old] : values) {
    if (number == name) {
      old = std::move(value);
      return;
    }
  }
  values.emplace_back(name, std::move(value));
}

// Text that goes into a value instead of the output.
struct Renderer::Capture {
  explicit Capture(Renderer& of) : renderer(of), outer(of.out_) { renderer.out_ = &text; }
  ~Capture() {
    renderer.out_ = outer;
    text_size = std::max<uint64_t>(text_size, text.size());
    if (Meter::current != nullptr) Meter::current->live -= std::min<uint64_t>(Meter::current->live, text_size);
  }
  std::string taken() {
    text_size = text.size();
    return std::move(text);
  }
  Renderer& renderer;
  std::string* outer;
  std::string text;
  uint64_t text_size = 0;
};

Renderer::Renderer(const Parsed& parsed, const Value& variables, const RenderOptions& options)
    : parsed_(parsed), globals_(parsed.names.size()), known_(parsed.names.size(), false) {
  for (size_t i = 0; i < parsed.names.size(); ++i) {
    const std::string& name = parsed.names[i];
    const int number = static_cast<int>(i);
    if (name == "loop") loop_name_ = number;
    if (name == "caller") caller_name_ = number;
    if (name == "kwargs") named_name_ = number;
    if (name == "varargs") positional_name_ = number;
    if (const Value* given = variables.dict().find(name)) {
      globals_[i] = *given;
      known_[i] = true;
    } else if (auto function = find_function(name, options.now)) {
      globals_[i] = std::move(*function);
      known_[i] = true;
    }
  }
}

Rendered Renderer::run() {
  out_ = &rendered_.text;
  execute(parsed_.body, std::make_shared<Scope>(nullptr));
  return std::move(rendered_);
}

void Renderer::write(std::string_view text) {
  need_room(text.size());
  if (Meter::current != nullptr) Meter::current->live += text.size();
  *out_ += text;
}

std::string Renderer::captured(const Body& body, const ScopePointer& scope) {
  Capture capture(*this);
  execute(body, scope);
  return capture.taken();
}

std::string Renderer::recursive_loop(const Statement& statement, const Value& items, const ScopePointer& scope,
                                     int64_t depth) {
  Capture capture(*this);
  loop(statement, items, scope, depth);
  return capture.taken();
}

// A level of statements or expressions. The stack of the thread is limited.
class Nested {
 public:
  Nested() {
    Meter* meter = Meter::current;
    if (++meter->depth > meter->limits.depth) {
      --meter->depth;
      fail("the template calls itself, or nests, more than {} levels deep", meter->limits.depth);
    }
  }
  ~Nested() { --Meter::current->depth; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;
};

Flow Renderer::execute(const Body& body, const ScopePointer& scope) {
  const Nested nested;
  for (const auto& statement : body) {
    const Flow flow = execute(*statement, scope);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Flow Renderer::execute(const Statement& statement, const ScopePointer& scope) {
  spend(1);
  line_ = statement.line;
  switch (statement.action) {
    case Action::text:
      write(statement.data);
      return Flow::normal;
    case Action::print: {
      const Value value = evaluate(*statement.expression, scope);
      write(value.is_string() ? value.text() : as_text(value));
      return Flow::normal;
    }
    case Action::assign:
      assign(statement.targets.front(), evaluate(*statement.expression, scope), scope);
      return Flow::normal;
    case Action::assign_block:
      return assign_block(statement, scope);
    case Action::if_else:
      return branches(statement, scope);
    case Action::loop:
      return loop(statement, evaluate(*statement.expression, scope), scope, 0);
    case Action::break_loop:
      return Flow::leave_loop;
    case Action::continue_loop:
      return Flow::next_round;
    case Action::macro:
      scope->set(statement.name, macro(statement, scope));
      return Flow::normal;
    case Action::call_block:
      call_block(statement, scope);
      return Flow::normal;
    case Action::filter_block:
      return filter_block(statement, scope);
    case Action::with:
      with(statement, scope);
      return Flow::normal;
    case Action::block: {
      ScopePointer outermost = scope;
      while (!statement.scoped && outermost->parent != nullptr) outermost = outermost->parent;
      return execute(statement.body, std::make_shared<Scope>(outermost));
    }
    case Action::generation:
      generation(statement, scope);
      return Flow::normal;
    case Action::unsupported:
      fail("\"{}\" needs another template, and a chat template stands alone", statement.data);
  }
  return Flow::normal;
}

Flow Renderer::branches(const Statement& statement, const ScopePointer& scope) {
  for (size_t i = 0; i < statement.values.size(); ++i) {
    if (evaluate(*statement.values[i], scope).truth()) return execute(statement.bodies[i], scope);
  }
  return execute(statement.other, scope);
}

Flow Renderer::assign_block(const Statement& statement, const ScopePointer& scope) {
  Capture capture(*this);
  const auto inner = std::make_shared<Scope>(scope);
  const Flow flow = execute(statement.body, inner);
  if (flow != Flow::normal) return flow;
  Value value(capture.taken());
  if (statement.expression != nullptr) value = filtered(*statement.expression, inner, &value);
  assign(statement.targets.front(), std::move(value), scope);
  return Flow::normal;
}

Flow Renderer::filter_block(const Statement& statement, const ScopePointer& scope) {
  Value value;
  {
    Capture capture(*this);
    const auto inner = std::make_shared<Scope>(scope);
    const Flow flow = execute(statement.body, inner);
    if (flow != Flow::normal) return flow;
    value = Value(capture.taken());
    value = filtered(*statement.expression, inner, &value);
  }
  write(as_text(value));
  return Flow::normal;
}

void Renderer::with(const Statement& statement, const ScopePointer& scope) {
  const auto inner = std::make_shared<Scope>(scope);
  for (size_t i = 0; i < statement.targets.size(); ++i) {
    assign(statement.targets[i], evaluate(*statement.values[i], scope), inner);
  }
  execute(statement.body, inner);
}

void Renderer::call_block(const Statement& statement, const ScopePointer& scope) {
  const Value caller = macro(statement, scope);
  write(as_text(call(*statement.expression, scope, &caller)));
}

void Renderer::generation(const Statement& statement, const ScopePointer& scope) {
  const bool direct = out_ == &rendered_.text;
  const size_t begin = rendered_.text.size();
  execute(statement.body, std::make_shared<Scope>(scope));
  if (direct) {
    rendered_.generated.push_back({begin, rendered_.text.size()});
  } else {
    rendered_.generated_elsewhere = true;
  }
}

void Renderer::assign(const Target& target, Value value, const ScopePointer& scope) {
  if (target.is_tuple) {
    if (!can_iterate(value)) fail("cannot unpack non-iterable {} object", type_name(value));
    Values items = items_of(value);
    if (items.size() != target.parts.size()) {
      fail("{} values to unpack, expected {}", items.size(), target.parts.size());
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], std::move(items[i]), scope);
  } else if (target.member.empty()) {
    scope->set(target.name, std::move(value));
  } else {
    const Value space = lookup(target.name, scope);
    if (!space.is(Type::space)) fail("cannot assign attribute on non-namespace object");
    space.as<Space>().members.set(target.member, std::move(value));
  }
}

Value Renderer::lookup(int name, const ScopePointer& scope) const {
  if (const Value* found = scope->find(name)) return *found;
  const auto number = static_cast<size_t>(name);
  if (known_[number]) return globals_[number];
  return Value::undefined(fmt::format("'{}' is undefined", parsed_.names[number]));
}

Value Renderer::evaluate(const Expression& expression, const ScopePointer& scope) {
  spend(1);
  if (expression.operation == Operation::constant) return expression.constant;
  if (expression.operation == Operation::name) return lookup(expression.name, scope);
  const Nested nested;
  return operation(expression, scope);
}

}  // namespace moe::jinja
