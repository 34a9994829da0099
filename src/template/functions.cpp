#include "template/functions.h"

#include <array>
#include <chrono>
#include <functional>

#include "base/error.h"
#include "template/arguments.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

constexpr int64_t kLongestRange = 100'000;  // the same limit as in jinja2's sandbox

struct Function : Object {
  Function(std::string its_name, std::function<Value(const Arguments&)> its_body)
      : name(std::move(its_name)), body(std::move(its_body)) {}
  bool member(std::string_view, Value&) override { return false; }
  bool can_call() const override { return true; }
  Value call(Arguments& arguments) override { return body(arguments); }
  std::string shown() const override {
    if (name == "dict") return "<class 'dict'>";
    const bool is_class = name == "cycler" || name == "joiner" || name == "namespace";
    if (!is_class) return fmt::format("<function {}>", name);
    return fmt::format("<class 'jinja2.utils.{}{}'>", static_cast<char>(name[0] - 32), name.substr(1));
  }
  std::string name;
  std::function<Value(const Arguments&)> body;
};

Value function(std::string name, std::function<Value(const Arguments&)> body) {
  return Value::object(std::make_shared<Function>(std::move(name), std::move(body)));
}

Value range(const Arguments& arguments) {
  const auto& given = arguments.positional;
  if (!arguments.named.empty() || given.empty() || given.size() > 3) fail("range needs one to three integers");
  std::array<int64_t, 3> numbers = {0, 0, 1};
  for (size_t i = 0; i < given.size(); ++i) {
    given[i].require_defined();
    if (!given[i].is_integral()) fail("'{}' object cannot be interpreted as an integer", type_name(given[i]));
    numbers[given.size() == 1 ? 1 : i] = given[i].integer();
  }
  const auto [start, stop, step] = numbers;
  if (step == 0) fail("range() arg 3 must not be zero");
  Values items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) == kLongestRange) {
      fail("Range too big. A template's ranges have at most {} items.", kLongestRange);
    }
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value(Type::range, std::make_shared<Range>(std::move(items), start, stop, step));
}

// Builds what dict() and namespace() return, from a mapping or pairs, and named arguments.
void fill(Dict& dict, const Arguments& arguments, const char* name) {
  if (arguments.positional.size() > 1)
    fail("{} expected at most 1 argument, got {}", name, arguments.positional.size());
  if (!arguments.positional.empty()) {
    const Value& first = arguments.positional[0];
    if (first.is(Type::dict)) {
      for (const auto& [key, value] : first.dict().entries) dict.set(key, value);
    } else {
      for (const Value& pair : items_of(first)) {
        const Values parts = items_of(pair);
        if (parts.size() != 2) fail("{} needs pairs of a key and a value", name);
        dict.set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [key, value] : arguments.named) dict.set(key, value);
}

Value make_dict(const Arguments& arguments) {
  auto made = std::make_shared<Dict>();
  fill(*made, arguments, "dict");
  return Value::dict(std::move(made));
}

Value make_space(const Arguments& arguments) {
  auto made = std::make_shared<Space>();
  fill(made->members, arguments, "namespace");
  forget_at_end(made);
  return Value(Type::space, std::move(made));
}

struct Cycler : Object {
  explicit Cycler(Values values) : items(std::move(values)) {}
  bool member(std::string_view name, Value& out) override {
    if (name == "current") {
      out = items[at];
    } else if (name == "next" || name == "reset") {
      const auto self = std::static_pointer_cast<Cycler>(shared_from_this());
      const bool reset = name == "reset";
      out = function(std::string(name),
                     [self, reset](const Arguments&) { return reset ? self->restart() : self->next(); });
    } else {
      return false;
    }
    return true;
  }
  Value next() {
    const Value value = items[at];
    at = (at + 1) % items.size();
    return value;
  }
  Value restart() {
    at = 0;
    return Value::none();
  }
  std::string shown() const override { return "<Cycler object>"; }
  Values items;
  size_t at = 0;
};

Value cycler(const Arguments& arguments) {
  if (arguments.positional.empty()) fail("at least one item has to be provided");
  return Value::object(std::make_shared<Cycler>(arguments.positional));
}

Value joiner(const Arguments& arguments) {
  const Bound bound(arguments, "joiner", {"sep"});
  const Value separator = bound[0] == nullptr ? Value(", ") : *bound[0];
  return function("joiner", [separator, used = false](const Arguments&) mutable {
    if (used) return separator;
    used = true;
    return Value("");
  });
}

Value raise_exception(const Arguments& arguments) {
  const Bound bound(arguments, "raise_exception", {"message"}, 1);
  throw Error(as_text(bound.required(0)));
}

// Python's strftime. It is the C library's, except for directives that need a time zone or parts of a second, which a
// plain time lacks.
Value strftime_now(const Arguments& arguments, std::optional<std::time_t> now) {
  const Bound bound(arguments, "strftime_now", {"format"}, 1);
  const std::string_view asked = bound.text(0, {});
  const std::time_t time = now.value_or(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
  std::tm parts{};
  localtime_r(&time, &parts);
  std::string text;
  for (size_t i = 0; i < asked.size(); ++i) {
    if (asked[i] != '%' || i + 1 == asked.size()) {
      text += asked[i];
      continue;
    }
    std::string one(asked.substr(i, asked[i + 1] == '-' && i + 2 < asked.size() ? 3 : 2));
    i += one.size() - 1;
    if (one == "%f") {
      text += "000000";
    } else if (one != "%z" && one != "%Z") {
      char buffer[256];
      text.append(buffer, std::strftime(buffer, sizeof buffer, one.c_str(), &parts));
    }
  }
  return Value(std::move(text));
}

Value lipsum(const Arguments&) { fail("the function lipsum is not supported here"); }

}  // namespace

bool Space::member(std::string_view name, Value& out) {
  const Value* found = members.find(name);
  if (found != nullptr) out = *found;
  return found != nullptr;
}

std::string Space::shown() const {
  std::string text = "<Namespace {";
  for (size_t i = 0; i < members.entries.size(); ++i) {
    if (i > 0) text += ", ";
    const auto& [key, value] = members.entries[i];
    text += jinja::shown(key) + ": " + (value.is(Type::space) ? "<Namespace ...>" : jinja::shown(value));
  }
  return text + "}>";
}

std::optional<Value> find_function(std::string_view name, std::optional<std::time_t> now) {
  if (name == "range") return function("range", range);
  if (name == "dict") return function("dict", make_dict);
  if (name == "namespace") return function("namespace", make_space);
  if (name == "cycler") return function("cycler", cycler);
  if (name == "joiner") return function("joiner", joiner);
  if (name == "raise_exception") return function("raise_exception", raise_exception);
  if (name == "lipsum") return function("lipsum", lipsum);
  if (name == "strftime_now") {
    return function("strftime_now", [now](const Arguments& arguments) { return strftime_now(arguments, now); });
  }
  return std::nullopt;
}

void forget_at_end(const std::shared_ptr<Object>& object) {
  if (Meter::current != nullptr) Meter::current->may_hold_themselves.push_back(object);
}

}  // namespace moe::jinja
