#pragma once
/// One rendering of a parsed template.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "template/ast.h"
#include "template/rendered.h"
#include "template/value.h"

namespace moe::jinja {

/// The variables of one block, by the number of their name. Other names are looked up in the block around it.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> around) : parent(std::move(around)) {}
  const Value* find(int name) const;
  void set(int name, Value value);

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> values;
};
using ScopePointer = std::shared_ptr<Scope>;

enum class Flow : uint8_t { normal, leave_loop, next_round };

/// For one thread at a time.
class Renderer {
 public:
  Renderer(const Parsed& parsed, const Value& variables, const RenderOptions& options);

  Rendered run();
  int line() const { return line_; }

  Value evaluate(const Expression& expression, const ScopePointer& scope);
  Flow execute(const Body& body, const ScopePointer& scope);
  void assign(const Target& target, Value value, const ScopePointer& scope);
  /// The text that `body` writes; it is returned instead of written.
  std::string captured(const Body& body, const ScopePointer& scope);
  /// A loop over `items`; returns text if it is the call of a recursive loop.
  Flow loop(const Statement& statement, const Value& items, const ScopePointer& scope, int64_t depth);
  std::string recursive_loop(const Statement& statement, const Value& items, const ScopePointer& scope, int64_t depth);
  /// The macro that a statement (macro or call_block) defines in a scope.
  Value macro(const Statement& statement, const ScopePointer& scope);

 private:
  friend class Nested;
  struct Capture;

  void write(std::string_view text);
  Flow execute(const Statement& statement, const ScopePointer& scope);
  void with(const Statement& statement, const ScopePointer& scope);
  void call_block(const Statement& statement, const ScopePointer& scope);
  void generation(const Statement& statement, const ScopePointer& scope);
  Flow branches(const Statement& statement, const ScopePointer& scope);
  Flow assign_block(const Statement& statement, const ScopePointer& scope);
  Flow filter_block(const Statement& statement, const ScopePointer& scope);

  Value operation(const Expression& expression, const ScopePointer& scope);
  Value lookup(int name, const ScopePointer& scope) const;
  Value container(const Expression& expression, const ScopePointer& scope);
  Value item(const Expression& expression, const ScopePointer& scope);
  Value compared(const Expression& expression, const ScopePointer& scope);
  Value concatenated(const Expression& expression, const ScopePointer& scope);
  Value conditional(const Expression& expression, const ScopePointer& scope);
  Value arithmetic(const Expression& expression, const ScopePointer& scope);
  Value call(const Expression& expression, const ScopePointer& scope, const Value* caller = nullptr);
  Value filtered(const Expression& expression, const ScopePointer& scope, const Value* input = nullptr);
  Arguments arguments(const CallArguments& given, const ScopePointer& scope, Values& alive);

  const Parsed& parsed_;
  std::vector<Value> globals_;  // by the number of the name
  std::vector<bool> known_;     // whether there is a global
  int loop_name_ = -1, caller_name_ = -1, named_name_ = -1, positional_name_ = -1;
  int line_ = 1;
  std::string* out_ = nullptr;
  Rendered rendered_;

  friend struct Macro;
  friend struct LoopObject;
};

}  // namespace moe::jinja
