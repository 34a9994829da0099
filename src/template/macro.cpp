#include <algorithm>

#include "base/error.h"
#include "template/functions.h"
#include "template/python_text.h"
#include "template/renderer.h"

namespace moe::jinja {

struct Macro : Object {
  Macro(Renderer& its_renderer, const Statement& its_statement, ScopePointer its_scope)
      : renderer(its_renderer), statement(its_statement), scope(std::move(its_scope)) {}

  bool member(std::string_view name, Value& out) override;
  bool can_call() const override { return true; }
  Value call(Arguments& arguments) override;
  std::string shown() const override {
    const std::string& name = statement.signature.name;
    return name.empty() ? "<Macro anonymous>" : fmt::format("<Macro {}>", quoted(name));
  }
  void forget() override { scope = nullptr; }

  Renderer& renderer;
  const Statement& statement;
  ScopePointer scope;

 private:
  void pass_rest(const Arguments& arguments, std::vector<bool>& used, Scope& inner) const;
};

bool Macro::member(std::string_view name, Value& out) {
  const Signature& signature = statement.signature;
  if (name == "name") {
    out = signature.name.empty() ? Value::none() : Value(signature.name);
  } else if (name == "arguments") {
    Values names;
    for (const std::string& parameter : signature.parameter_names) names.emplace_back(parameter);
    out = Value::tuple(std::move(names));
  } else if (name == "catch_kwargs") {
    out = Value(signature.uses_named);
  } else if (name == "catch_varargs") {
    out = Value(signature.uses_positional);
  } else if (name == "caller") {
    out = Value(signature.uses_caller);
  } else {
    return false;
  }
  return true;
}

// The remaining arguments, for bodies that use them. For other bodies there must be none.
void Macro::pass_rest(const Arguments& arguments, std::vector<bool>& used, Scope& inner) const {
  const Signature& signature = statement.signature;
  const auto& names = signature.parameter_names;
  const bool has_caller = std::find(names.begin(), names.end(), "caller") != names.end();
  if (signature.uses_caller && !has_caller) {
    Value caller = Value::undefined("No caller defined");
    for (size_t i = 0; i < arguments.named.size(); ++i) {
      if (arguments.named[i].first != "caller") continue;
      used[i] = true;
      if (!arguments.named[i].second.is(Type::none)) caller = arguments.named[i].second;
    }
    inner.set(renderer.caller_name_, std::move(caller));
  }
  auto named = std::make_shared<Dict>();
  for (size_t i = 0; i < arguments.named.size(); ++i) {
    if (used[i]) continue;
    const auto& [name, value] = arguments.named[i];
    if (!signature.uses_named) fail("macro '{}' takes no keyword argument '{}'", signature.name, name);
    named->set(name, value);
  }
  if (signature.uses_named) inner.set(renderer.named_name_, Value::dict(std::move(named)));
  const size_t count = signature.parameters.size();
  Values rest(arguments.positional.begin() + static_cast<std::ptrdiff_t>(std::min(count, arguments.positional.size())),
              arguments.positional.end());
  if (signature.uses_positional) {
    inner.set(renderer.positional_name_, Value::tuple(std::move(rest)));
  } else if (!rest.empty()) {
    fail("macro '{}' takes not more than {} argument(s)", signature.name, count);
  }
}

Value Macro::call(Arguments& arguments) {
  const Signature& signature = statement.signature;
  const auto inner = std::make_shared<Scope>(scope);
  std::vector<bool> used(arguments.named.size(), false);
  const size_t count = signature.parameters.size();
  std::vector<size_t> absent;
  for (size_t i = 0; i < count; ++i) {
    if (i < arguments.positional.size()) {
      inner->set(signature.parameters[i], arguments.positional[i]);
      continue;
    }
    const std::string& name = signature.parameter_names[i];
    const auto same = [&](const auto& each) { return each.first == name; };
    const auto given = std::find_if(arguments.named.begin(), arguments.named.end(), same);
    if (given != arguments.named.end()) {
      used[static_cast<size_t>(given - arguments.named.begin())] = true;
      inner->set(signature.parameters[i], given->second);
    } else {
      inner->set(signature.parameters[i], Value::undefined(fmt::format("parameter '{}' was not provided", name)));
      absent.push_back(i);
    }
  }
  pass_rest(arguments, used, *inner);
  for (const size_t i : absent) {  // defaults may use the parameters before them
    const size_t first = count - signature.defaults.size();
    if (i >= first) inner->set(signature.parameters[i], renderer.evaluate(*signature.defaults[i - first], inner));
  }
  return Value(renderer.captured(statement.body, inner));
}

Value Renderer::macro(const Statement& statement, const ScopePointer& scope) {
  auto made = std::make_shared<Macro>(*this, statement, scope);
  forget_at_end(made);
  return Value::object(std::move(made));
}

}  // namespace moe::jinja
