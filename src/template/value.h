#pragma once
/// Values of a template, with Python's meaning: text is a sequence of code points, dictionaries keep the order of their
/// keys, and integers and floats are different types that may be equal.
///
/// A value is small and may be copied freely; copies share their content. Lists, tuples, dictionaries and text never
/// change after they are made, so several threads may share values. Exceptions are namespaces and other objects that
/// only a rendering makes.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "template/meter.h"

namespace moe::jinja {

enum class Type : uint8_t {
  undefined,  // a name or member that does not exist
  none,
  boolean,
  integer,
  real,
  string,
  list,
  tuple,
  range,
  view,       // keys(), values() and items() of a dictionary
  generator,  // the result of map, select and similar filters: can be visited once
  dict,
  space,     // namespace()
  callable,  // a function, method or macro
  object,    // loop, cycler
};

/// The content that a value shares with its copies.
struct Shared {
  explicit Shared(uint64_t bytes) : charge(sizeof(Shared) + bytes) {}
  virtual ~Shared() = default;
  Charge charge;
};

class Value;
struct Arguments;
struct Dict;
using Values = std::vector<Value>;

/// The reason why a value is undefined: the sentence of the error when it is used.
struct Missing : Shared {
  Missing(std::string text, bool is_forbidden)
      : Shared(text.size()), message(std::move(text)), forbidden(is_forbidden) {}
  std::string message;
  bool forbidden;  // an attribute that templates must not use
};

struct Text : Shared {
  Text(std::string value, bool is_markup) : Shared(value.size()), text(std::move(value)), markup(is_markup) {}
  std::string text;  // UTF-8
  bool markup;       // marked as HTML by `safe` or `escape`: text that is added to it is escaped
};

// Constructors and destructors of what holds values are in value.cpp: here Value is not complete.
struct Items : Shared {
  explicit Items(Values values);
  ~Items() override;
  Values items;
};

struct Range : Items {
  Range(Values values, int64_t first, int64_t end, int64_t by);
  int64_t start, stop, step;
};

/// `kind` is Python's name of it, such as dict_items.
struct View : Items {
  View(Values values, const char* name);
  const char* kind;
};

struct Generator : Items {
  explicit Generator(Values values);
  size_t next = 0;
};

/// An object with members, methods and perhaps a call, which only a rendering makes.
struct Object : Shared, std::enable_shared_from_this<Object> {
  Object() : Shared(64) {}
  /// Writes the member to `out`; false if there is none.
  virtual bool member(std::string_view name, Value& out) = 0;
  virtual bool can_call() const { return false; }
  virtual Value call(Arguments& arguments);
  virtual std::string shown() const = 0;
  /// Drops members that could refer to the object itself, so that no memory is left after a rendering.
  virtual void forget() {}
};

class Value {
 public:
  Value() = default;  // undefined, without a reason
  explicit Value(bool value) : type_(Type::boolean) { number_.integer = value; }
  explicit Value(int64_t value) : type_(Type::integer) { number_.integer = value; }
  explicit Value(double value) : type_(Type::real) { number_.real = value; }
  explicit Value(std::string_view text) : Value(std::string(text)) {}
  explicit Value(const char* text) : Value(std::string(text)) {}
  explicit Value(std::string text, bool markup = false);
  static Value none();
  static Value undefined(std::string message, bool forbidden = false);
  static Value list(Values items) { return Value(Type::list, std::make_shared<Items>(std::move(items))); }
  static Value tuple(Values items) { return Value(Type::tuple, std::make_shared<Items>(std::move(items))); }
  static Value generator(Values items) { return Value(Type::generator, std::make_shared<Generator>(std::move(items))); }
  static Value dict(std::shared_ptr<Dict> dict);
  static Value object(std::shared_ptr<Object> object);
  Value(Type type, std::shared_ptr<Shared> shared) : type_(type), shared_(std::move(shared)) {}

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_undefined() const { return type_ == Type::undefined; }
  bool is_string() const { return type_ == Type::string; }
  bool is_integral() const { return type_ == Type::integer || type_ == Type::boolean; }
  bool is_number() const { return is_integral() || type_ == Type::real; }
  bool is_markup() const { return is_string() && static_cast<const Text&>(*shared_).markup; }
  /// Lists, tuples, ranges, views and generators.
  bool has_items() const { return type_ >= Type::list && type_ <= Type::generator; }

  /// Of the right type only.
  bool boolean() const { return number_.integer != 0; }
  int64_t integer() const { return number_.integer; }  // of a boolean too
  double real() const { return type_ == Type::real ? number_.real : static_cast<double>(number_.integer); }
  const std::string& text() const { return static_cast<const Text&>(*shared_).text; }
  const Values& items() const { return static_cast<const Items&>(*shared_).items; }
  const Dict& dict() const;
  Object& object() const { return static_cast<Object&>(*shared_); }
  template <class T>
  T& as() const {
    return static_cast<T&>(*shared_);
  }
  const std::shared_ptr<Shared>& shared() const { return shared_; }

  bool truth() const;
  /// Throws the error of an undefined value; does nothing for any other.
  void require_defined() const;

 private:
  Type type_ = Type::undefined;
  union {
    int64_t integer = 0;
    double real;
  } number_;
  std::shared_ptr<Shared> shared_;
};

struct Dict : Shared {
  Dict() : Shared(64) {}
  /// Adds the value or, if the key exists, replaces it. An error for a key that Python cannot hash.
  void set(Value key, Value value);
  void set(std::string_view key, Value value) { set(Value(key), std::move(value)); }
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void forget();

  std::vector<std::pair<Value, Value>> entries;

 private:
  size_t position(const Value& key) const;
  size_t position(std::string_view key) const;
  std::unordered_map<std::string_view, size_t> strings_;  // for dictionaries that are not small
  size_t indexed_ = 0;
};

struct Arguments {
  Values positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

/// Python's name of the type, as in its error messages: "str", "NoneType".
std::string_view type_name(const Value& value);

/// ==. Never fails.
bool equal(const Value& a, const Value& b);
/// -1, 0 or 1 (2: unordered, because of a NaN). An error for types that Python cannot order.
int compare(const Value& a, const Value& b, std::string_view operation = "<");
/// True if `container` holds `item`. An error where Python has one.
bool contains(const Value& container, const Value& item);
/// An error if Python cannot hash the value.
void require_hashable(const Value& value);

/// len(), or an error.
int64_t length_of(const Value& value);
/// All items in order: the characters of text, the keys of a dictionary. Uses up a generator. An error if the value has
/// no items.
Values items_of(const Value& value);
bool can_iterate(const Value& value);

}  // namespace moe::jinja
