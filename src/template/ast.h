#pragma once
/// A parsed template. It does not change after parsing.

#include <memory>
#include <string>
#include <vector>

#include "template/value.h"

namespace moe::jinja {

struct Expression;
struct Statement;
using ExpressionPointer = std::unique_ptr<Expression>;
using Body = std::vector<std::unique_ptr<Statement>>;

struct NamedArgument {
  std::string name;
  ExpressionPointer value;
};

struct CallArguments {
  std::vector<ExpressionPointer> positional;
  std::vector<NamedArgument> named;
  ExpressionPointer more_positional, more_named;  // *list and **dictionary
};

enum class Operation : uint8_t {
  constant,
  name,
  tuple,
  list,
  dict,       // parts: key, value, key, value ...
  attribute,  // parts[0] . text
  item,       // parts[0] [ parts[1] ]
  slice,      // parts: begin, end, step, each possibly null; only as parts[1] of item
  call,       // parts[0] ( arguments )
  filter,     // parts[0] | text ( arguments ); parts[0] is null at the head of a filter block
  test,       // parts[0] is text ( arguments )
  negate,
  plus,
  logical_not,
  logical_and,
  logical_or,
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  concatenate,
  compare,      // parts[0] comparisons[0] parts[1] comparisons[1] ...
  conditional,  // parts: condition, value, value else (possibly null)
};

enum class Comparison : uint8_t { equal, not_equal, less, less_or_equal, greater, greater_or_equal, in, not_in };

struct Expression {
  Operation operation;
  int line;
  Value constant = {};
  std::string text = {};  // name, attribute, filter or test
  int name = -1;          // for a name: its number among the template's names
  std::vector<ExpressionPointer> parts = {};
  std::vector<Comparison> comparisons = {};
  CallArguments arguments = {};
  int height = 1;  // levels of expressions, including this one
};

/// What an assignment writes to: a name, a member of a namespace, or several of them.
struct Target {
  int name = -1;
  std::string member = {};  // of the namespace `name`
  std::vector<Target> parts = {};
  bool is_tuple = false;
};

struct Signature {
  std::string name;  // of a macro; empty: a call block
  std::vector<int> parameters;
  std::vector<std::string> parameter_names;
  std::vector<ExpressionPointer> defaults;                                // of the last parameters
  bool uses_caller = false, uses_named = false, uses_positional = false;  // caller, kwargs, varargs
};

enum class Action : uint8_t {
  text,    // data
  print,   // expression
  assign,  // target = expression
  assign_block,
  if_else,  // values[i]: bodies[i] ...; other
  loop,     // for target in expression [if test]: body, other
  break_loop,
  continue_loop,
  macro,
  call_block,  // expression is the call; body and signature are the caller
  filter_block,
  with,   // targets, values, body
  block,  // a part with a name, which inheritance could replace
  generation,
  unsupported,  // include, import and extends: there is nothing to load from
};

struct Statement {
  Action action;
  int line;
  std::string data = {};
  ExpressionPointer expression = {};
  ExpressionPointer test = {};
  std::vector<Target> targets = {};
  std::vector<ExpressionPointer> values = {};
  Body body = {}, other = {};
  std::vector<Body> bodies = {};
  bool recursive = false;
  bool scoped = false;  // for a block: it sees the variables around it
  Signature signature = {};
  int name = -1;  // of a macro
};

/// `names` has every variable name in the template; expressions hold indices into it.
struct Parsed {
  Body body;
  std::vector<std::string> names;
};

}  // namespace moe::jinja
