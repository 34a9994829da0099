#include <functional>
#include <optional>

#include "base/error.h"
#include "template/arguments.h"
#include "template/functions.h"
#include "template/renderer.h"

namespace moe::jinja {
namespace {

// The items of a loop, one at a time. A condition is evaluated when its item's turn comes, and a generator is used up.
class ItemSource {
 public:
  ItemSource(const Value& iterable, std::function<bool(const Value&)> condition)
      : iterable_(iterable), condition_(std::move(condition)) {
    const bool shares = iterable.has_items();
    if (!shares) own_ = items_of(iterable);
    items_ = shares ? &iterable.items() : &own_;
  }
  ItemSource(const ItemSource&) = delete;
  ItemSource& operator=(const ItemSource&) = delete;

  std::optional<Value> next() {
    size_t& at = iterable_.is(Type::generator) && items_ != &own_ ? iterable_.as<Generator>().next : at_;
    while (at < items_->size()) {
      const Value item = (*items_)[at++];
      spend(1);
      if (!condition_ || condition_(item)) return item;
    }
    return std::nullopt;
  }

  /// The number of all items, if it is known without evaluating a condition.
  std::optional<size_t> size() const {
    if (condition_ || iterable_.is(Type::generator)) return std::nullopt;
    return items_->size();
  }

  /// Takes all remaining items, and gives them one by one afterwards.
  size_t collect() {
    Values left;
    while (auto item = next()) left.push_back(std::move(*item));
    own_ = std::move(left);
    items_ = &own_;
    at_ = 0;
    condition_ = nullptr;
    return own_.size();
  }

 private:
  Value iterable_;
  std::function<bool(const Value&)> condition_;
  Values own_;
  const Values* items_ = nullptr;
  size_t at_ = 0;
};

}  // namespace

// The variable `loop`.
struct LoopObject : Object {
  LoopObject(Renderer& its_renderer, const Statement& its_statement, const Value& iterable,
             std::function<bool(const Value&)> condition, ScopePointer its_scope, int64_t depth)
      : renderer(its_renderer),
        statement(its_statement),
        source(iterable, std::move(condition)),
        scope(std::move(its_scope)),
        depth0(depth) {}

  bool member(std::string_view name, Value& out) override;
  bool can_call() const override { return true; }
  Value call(Arguments& arguments) override;
  std::string shown() const override { return "<LoopContext>"; }
  void forget() override {
    scope = nullptr;
    before = current = Value();
    after.reset();
    changed_from.reset();
  }

  bool advance() {
    std::optional<Value> item = peeked ? std::move(after) : source.next();
    peeked = false;
    after.reset();
    if (!item) return false;
    ++index0;
    before = std::move(current);
    current = std::move(*item);
    return true;
  }

  Renderer& renderer;
  const Statement& statement;
  ItemSource source;
  ScopePointer scope;
  int64_t depth0;
  int64_t index0 = -1;
  Value before, current;

 private:
  const std::optional<Value>& peek() {
    if (!peeked) after = source.next();
    peeked = true;
    return after;
  }

  int64_t length() {
    if (length_ < 0) {
      if (const auto known = source.size()) {
        length_ = static_cast<int64_t>(*known);
      } else {
        length_ = static_cast<int64_t>(source.collect()) + index0 + 1 + (peeked && after.has_value());
      }
    }
    return length_;
  }

  Value cycle_method();
  Value changed_method();

  bool peeked = false;
  std::optional<Value> after;
  int64_t length_ = -1;
  std::optional<Values> changed_from;
};

namespace {

struct LoopMethod : Object {
  LoopMethod(std::string its_name, std::function<Value(const Arguments&)> its_body)
      : name(std::move(its_name)), body(std::move(its_body)) {}
  bool member(std::string_view, Value&) override { return false; }
  bool can_call() const override { return true; }
  Value call(Arguments& arguments) override { return body(arguments); }
  std::string shown() const override { return fmt::format("<method {}>", name); }
  std::string name;
  std::function<Value(const Arguments&)> body;
};

}  // namespace

Value LoopObject::cycle_method() {
  return Value::object(std::make_shared<LoopMethod>("cycle", [index = index0](const Arguments& arguments) {
    if (arguments.positional.empty()) fail("no items for cycling given");
    return arguments.positional[static_cast<size_t>(index) % arguments.positional.size()];
  }));
}

Value LoopObject::changed_method() {
  const auto self = std::static_pointer_cast<LoopObject>(shared_from_this());
  return Value::object(std::make_shared<LoopMethod>("changed", [self](const Arguments& arguments) {
    std::optional<Values>& last = self->changed_from;
    const bool same = last && last->size() == arguments.positional.size() &&
                      std::equal(last->begin(), last->end(), arguments.positional.begin(), equal);
    last = arguments.positional;
    return Value(!same);
  }));
}

bool LoopObject::member(std::string_view name, Value& out) {
  if (name == "index") {
    out = Value(index0 + 1);
  } else if (name == "index0") {
    out = Value(index0);
  } else if (name == "first") {
    out = Value(index0 == 0);
  } else if (name == "last") {
    out = Value(!peek().has_value());
  } else if (name == "length") {
    out = Value(length());
  } else if (name == "revindex") {
    out = Value(length() - index0);
  } else if (name == "revindex0") {
    out = Value(length() - index0 - 1);
  } else if (name == "depth") {
    out = Value(depth0 + 1);
  } else if (name == "depth0") {
    out = Value(depth0);
  } else if (name == "previtem") {
    out = index0 == 0 ? Value::undefined("there is no previous item") : before;
  } else if (name == "nextitem") {
    out = peek() ? *peek() : Value::undefined("there is no next item");
  } else if (name == "cycle") {
    out = cycle_method();
  } else if (name == "changed") {
    out = changed_method();
  } else {
    return false;
  }
  return true;
}

Value LoopObject::call(Arguments& arguments) {
  if (!statement.recursive) fail("The loop must have the 'recursive' marker to be called recursively.");
  const Bound bound(arguments, "loop", {"iterable"}, 1);
  return Value(renderer.recursive_loop(statement, bound.required(0), scope, depth0 + 1));
}

Flow Renderer::loop(const Statement& statement, const Value& items, const ScopePointer& scope, int64_t depth) {
  if (!can_iterate(items)) fail("'{}' object is not iterable", type_name(items));
  const Target& target = statement.targets.front();
  std::function<bool(const Value&)> condition;
  if (statement.test != nullptr) {
    condition = [this, &statement, &target, scope](const Value& item) {
      const auto inner = std::make_shared<Scope>(scope);
      assign(target, item, inner);
      return evaluate(*statement.test, inner).truth();
    };
  }
  const auto object = std::make_shared<LoopObject>(*this, statement, items, std::move(condition), scope, depth);
  Value loop_value;
  if (loop_name_ >= 0) {
    forget_at_end(object);
    loop_value = Value::object(object);
  }
  bool finished_round = false;  // if break or continue ends the first round, the else part runs, as in jinja2
  auto inner = std::make_shared<Scope>(scope);
  Flow flow = Flow::normal;
  while (flow != Flow::leave_loop && object->advance()) {
    if (inner.use_count() > 1) inner = std::make_shared<Scope>(scope);  // a macro has taken it
    inner->values.clear();
    if (loop_name_ >= 0) inner->set(loop_name_, loop_value);
    assign(target, object->current, inner);
    flow = execute(statement.body, inner);
    finished_round = finished_round || flow == Flow::normal;
  }
  if (!finished_round && !statement.other.empty()) return execute(statement.other, std::make_shared<Scope>(scope));
  return Flow::normal;
}

}  // namespace moe::jinja
