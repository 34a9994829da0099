#include "template/value.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

constexpr size_t kSmallDict = 12;

// Exact for every pair, like Python's comparison of an int with a float.
int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  if (a.is(Type::real) && b.is(Type::real)) {
    if (std::isnan(a.real()) || std::isnan(b.real())) return 2;
    return a.real() < b.real() ? -1 : a.real() > b.real();
  }
  if (a.is(Type::real)) {
    const int turned = compare_numbers(b, a);
    return turned == 2 ? 2 : -turned;
  }
  const double real = b.real();
  if (std::isnan(real)) return 2;
  if (real >= 9223372036854775808.0) return -1;
  if (real < -9223372036854775808.0) return 1;
  const auto whole = static_cast<int64_t>(real);
  if (a.integer() != whole) return a.integer() < whole ? -1 : 1;
  const double rest = real - static_cast<double>(whole);
  return rest > 0 ? -1 : rest < 0;
}

bool equal_items(const Values& a, const Values& b) {
  spend(std::min(a.size(), b.size()));
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), equal);
}

}  // namespace

Items::Items(Values values) : Shared(values.size() * sizeof(Value)), items(std::move(values)) { spend(items.size()); }
Items::~Items() = default;

Range::Range(Values values, int64_t first, int64_t end, int64_t by)
    : Items(std::move(values)), start(first), stop(end), step(by) {}
View::View(Values values, const char* name) : Items(std::move(values)), kind(name) {}
Generator::Generator(Values values) : Items(std::move(values)) {}

Value Object::call(Arguments&) { fail("'{}' object is not callable", shown()); }

Value::Value(std::string text, bool markup)
    : type_(Type::string), shared_(std::make_shared<Text>(std::move(text), markup)) {}

Value Value::none() {
  Value value;
  value.type_ = Type::none;
  return value;
}

Value Value::undefined(std::string message, bool forbidden) {
  return Value(Type::undefined, std::make_shared<Missing>(std::move(message), forbidden));
}

Value Value::dict(std::shared_ptr<Dict> dict) { return Value(Type::dict, std::move(dict)); }

Value Value::object(std::shared_ptr<Object> object) {
  const Type type = object->can_call() ? Type::callable : Type::object;
  return Value(type, std::move(object));
}

const Dict& Value::dict() const { return static_cast<const Dict&>(*shared_); }

bool Value::truth() const {
  switch (type_) {
    case Type::undefined:
    case Type::none:
      return false;
    case Type::boolean:
    case Type::integer:
      return number_.integer != 0;
    case Type::real:
      return number_.real != 0;
    case Type::string:
      return !text().empty();
    case Type::list:
    case Type::tuple:
    case Type::range:
    case Type::view:
      return !items().empty();
    case Type::dict:
      return !dict().entries.empty();
    default:
      return true;
  }
}

void Value::require_defined() const {
  if (!is_undefined()) return;
  if (shared_ == nullptr) fail("a value is undefined");
  throw Error(as<Missing>().message);
}

size_t Dict::position(std::string_view key) const {
  if (entries.size() > kSmallDict) {
    const auto found = strings_.find(key);
    return found == strings_.end() ? entries.size() : found->second;
  }
  const auto same = [&](const auto& entry) { return entry.first.is_string() && entry.first.text() == key; };
  return static_cast<size_t>(std::find_if(entries.begin(), entries.end(), same) - entries.begin());
}

size_t Dict::position(const Value& key) const {
  if (key.is_string()) return position(std::string_view(key.text()));
  spend(entries.size());
  const auto same = [&](const auto& entry) { return equal(entry.first, key); };
  return static_cast<size_t>(std::find_if(entries.begin(), entries.end(), same) - entries.begin());
}

void Dict::set(Value key, Value value) {
  require_hashable(key);
  const size_t at = position(key);
  if (at < entries.size()) {
    entries[at].second = std::move(value);
    return;
  }
  charge.grow(2 * sizeof(Value) + 32);
  entries.emplace_back(std::move(key), std::move(value));
  if (entries.size() <= kSmallDict) return;
  for (; indexed_ < entries.size(); ++indexed_) {
    const Value& added = entries[indexed_].first;
    if (added.is_string()) strings_.emplace(added.text(), indexed_);
  }
}

const Value* Dict::find(const Value& key) const {
  const size_t at = position(key);
  return at < entries.size() ? &entries[at].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  const size_t at = position(key);
  return at < entries.size() ? &entries[at].second : nullptr;
}

void Dict::forget() {
  strings_.clear();
  entries.clear();
}

std::string_view type_name(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return "Undefined";
    case Type::none:
      return "NoneType";
    case Type::boolean:
      return "bool";
    case Type::integer:
      return "int";
    case Type::real:
      return "float";
    case Type::string:
      return value.is_markup() ? "Markup" : "str";
    case Type::list:
      return "list";
    case Type::tuple:
      return "tuple";
    case Type::range:
      return "range";
    case Type::view:
      return value.as<View>().kind;
    case Type::generator:
      return "generator";
    case Type::dict:
      return "dict";
    case Type::space:
      return "Namespace";
    case Type::callable:
      return "function";
    case Type::object:
      return "object";
  }
  return "object";
}

bool equal(const Value& a, const Value& b) {
  spend(1);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::undefined:
    case Type::none:
      return true;
    case Type::string:
      spend(text_steps(std::min(a.text().size(), b.text().size())));
      return a.text() == b.text();
    case Type::list:
    case Type::tuple:
    case Type::range:
    case Type::view:
      return equal_items(a.items(), b.items());
    case Type::dict: {
      const auto& entries = a.dict().entries;
      if (entries.size() != b.dict().entries.size()) return false;
      return std::all_of(entries.begin(), entries.end(), [&](const auto& entry) {
        const Value* other = b.dict().find(entry.first);
        return other != nullptr && equal(entry.second, *other);
      });
    }
    default:
      return a.shared() == b.shared();
  }
}

int compare(const Value& a, const Value& b, std::string_view operation) {
  spend(1);
  a.require_defined();
  b.require_defined();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    spend(text_steps(std::min(a.text().size(), b.text().size())));
    const int order = a.text().compare(b.text());  // UTF-8 keeps the order of code points
    return order < 0 ? -1 : order > 0;
  }
  const bool sequences = a.type() == b.type() && (a.is(Type::list) || a.is(Type::tuple));
  if (!sequences) {
    fail("'{}' not supported between instances of '{}' and '{}'", operation, type_name(a), type_name(b));
  }
  const Values &left = a.items(), &right = b.items();
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    if (!equal(left[i], right[i])) return compare(left[i], right[i], operation);
  }
  return left.size() < right.size() ? -1 : left.size() > right.size();
}

void require_hashable(const Value& value) {
  if (value.is(Type::list) || value.is(Type::dict) || value.is(Type::view)) {
    fail("unhashable type: '{}'", type_name(value));
  }
  if (value.is(Type::tuple)) {
    for (const Value& item : value.items()) require_hashable(item);
  }
}

bool contains(const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::undefined:
      return false;
    case Type::string:
      if (!item.is_string()) fail("'in <string>' requires string as left operand, not {}", type_name(item));
      spend(text_steps(container.text().size()));
      return container.text().find(item.text()) != std::string::npos;
    case Type::dict:
      require_hashable(item);
      return container.dict().find(item) != nullptr;
    case Type::generator: {
      Generator& generator = container.as<Generator>();
      while (generator.next < generator.items.size()) {
        if (equal(generator.items[generator.next++], item)) return true;
      }
      return false;
    }
    case Type::list:
    case Type::tuple:
    case Type::range:
    case Type::view:
      return std::any_of(container.items().begin(), container.items().end(),
                         [&](const Value& each) { return equal(each, item); });
    default:
      fail("argument of type '{}' is not iterable", type_name(container));
  }
}

int64_t length_of(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return 0;
    case Type::string:
      spend(text_steps(value.text().size()));
      return static_cast<int64_t>(code_points(value.text()));
    case Type::list:
    case Type::tuple:
    case Type::range:
    case Type::view:
      return static_cast<int64_t>(value.items().size());
    case Type::dict:
      return static_cast<int64_t>(value.dict().entries.size());
    default:
      fail("object of type '{}' has no len()", type_name(value));
  }
}

bool can_iterate(const Value& value) {
  return value.is_undefined() || value.is_string() || value.has_items() || value.is(Type::dict);
}

Values items_of(const Value& value) {
  Values items;
  switch (value.type()) {
    case Type::undefined:
      return items;
    case Type::string:  // the characters of marked text are plain ones
      need_room(value.text().size() * (sizeof(Value) + sizeof(Text)));
      for_each_character(value.text(), [&](std::string_view c) { items.emplace_back(c); });
      return items;
    case Type::generator: {
      Generator& generator = value.as<Generator>();
      items.assign(generator.items.begin() + static_cast<std::ptrdiff_t>(generator.next), generator.items.end());
      generator.next = generator.items.size();
      return items;
    }
    case Type::list:
    case Type::tuple:
    case Type::range:
    case Type::view:
      spend(value.items().size());
      return value.items();
    case Type::dict:
      spend(value.dict().entries.size());
      for (const auto& [key, unused] : value.dict().entries) items.push_back(key);
      return items;
    default:
      fail("'{}' object is not iterable", type_name(value));
  }
}

}  // namespace moe::jinja
