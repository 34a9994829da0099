#include "template/attributes.h"

#include "base/error.h"
#include "template/methods.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

// A method of text, a list or a dictionary, together with its object.
struct BoundMethod : Object {
  BoundMethod(Value value, const Method& its_method) : self(std::move(value)), method(its_method) {}
  bool member(std::string_view, Value&) override { return false; }
  bool can_call() const override { return true; }
  Value call(Arguments& arguments) override { return method.function(self, arguments); }
  std::string shown() const override {
    return fmt::format("<built-in method {} of {} object>", method.name, type_name(self));
  }
  Value self;
  const Method& method;
};

Value without(const Value& value, std::string_view name) {
  return Value::undefined(fmt::format("'{}' has no attribute '{}'", type_name(value), name));
}

Value forbidden(const Value& value, std::string_view name) {
  return Value::undefined(
      fmt::format("the attribute '{}' of a '{}' may not be used in a template", name, type_name(value)), true);
}

// The result of Python's getattr; false if there is none.
bool find_attribute(const Value& value, std::string_view name, Value& out) {
  if (value.is(Type::space) || value.is(Type::object) || value.is(Type::callable)) {
    if (!value.object().member(name, out)) return false;
    if (name.starts_with('_')) out = forbidden(value, name);
    return true;
  }
  if (name.starts_with("__") && name.ends_with("__") && name.size() > 4) {
    if (!is_python_attribute(name)) return false;
    out = forbidden(value, name);
    return true;
  }
  const bool is_group = value.is(Type::tuple) && value.items().size() == 2 && is_group_tuple(value);
  if (is_group && (name == "grouper" || name == "list")) {
    out = value.items()[name == "list"];
    return true;
  }
  const Method* method = find_method(value, name);
  if (method == nullptr) return false;
  if (method->function == nullptr) {
    out = method->changes ? forbidden(value, name) : Value::undefined("");
    if (!method->changes) fail("the method {} of '{}' is not supported here", name, type_name(value));
    return true;
  }
  out = Value::object(std::make_shared<BoundMethod>(value, *method));
  return true;
}

// The result of value[key]; false if there is none.
bool find_item(const Value& value, const Value& key, Value& out) {
  if (value.is(Type::dict)) {
    if (key.is(Type::list) || key.is(Type::dict)) return false;
    const Value* found = value.dict().find(key);
    if (found != nullptr) out = *found;
    return found != nullptr;
  }
  if (!key.is_integral()) return false;
  const bool indexable = value.is_string() || value.is(Type::list) || value.is(Type::tuple) || value.is(Type::range);
  if (!indexable) return false;
  const int64_t length = length_of(value);
  const int64_t index = key.integer() < 0 ? key.integer() + length : key.integer();
  if (index < 0 || index >= length) return false;
  if (value.is_string()) {
    const std::string_view rest =
        std::string_view(value.text()).substr(byte_of(value.text(), static_cast<size_t>(index)));
    out = Value(std::string(rest.substr(0, std::max<size_t>(1, utf8_length(rest)))), value.is_markup());
  } else {
    out = value.items()[static_cast<size_t>(index)];
  }
  return true;
}

// A bound of a slice; none if it is absent.
std::optional<int64_t> bound(const Value& value) {
  if (value.is(Type::none)) return std::nullopt;
  value.require_defined();
  if (!value.is_integral()) fail("slice indices must be integers or None, found '{}'", type_name(value));
  return value.integer();
}

// Indices of a slice, in the order of the result.
std::vector<size_t> slice_indices(int64_t length, const Value& begin, const Value& end, const Value& step) {
  const int64_t by = bound(step).value_or(1);
  if (by == 0) fail("slice step cannot be zero");
  const int64_t lowest = by < 0 ? -1 : 0, highest = by < 0 ? length - 1 : length;
  const auto clamped = [&](std::optional<int64_t> at, int64_t absent) {
    if (!at) return absent;
    if (*at < 0) return std::max(*at + length, lowest);
    return std::min(*at, highest);
  };
  const int64_t first = clamped(bound(begin), by < 0 ? highest : lowest);
  const int64_t last = clamped(bound(end), by < 0 ? lowest : highest);
  std::vector<size_t> indices;
  for (int64_t i = first; by > 0 ? i < last : i > last;) {
    indices.push_back(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  spend(indices.size());
  return indices;
}

}  // namespace

Value get_attribute(const Value& value, std::string_view name) {
  spend(1);
  value.require_defined();
  Value out;
  if (find_attribute(value, name, out)) return out;
  if (value.is(Type::dict)) {
    if (const Value* found = value.dict().find(name)) return *found;
  }
  return without(value, name);
}

Value get_item(const Value& value, const Value& key) {
  spend(1);
  value.require_defined();
  Value out;
  if (find_item(value, key, out)) return out;
  if (key.is_string() && find_attribute(value, key.text(), out)) return out;
  if (key.is_string()) return without(value, key.text());
  return Value::undefined(fmt::format("'{}' has no element {}", type_name(value), shown(key)));
}

Value get_slice(const Value& value, const Value& begin, const Value& end, const Value& step) {
  value.require_defined();
  const bool sliceable = value.is_string() || value.is(Type::list) || value.is(Type::tuple) || value.is(Type::range);
  if (!sliceable) fail("a '{}' cannot be cut into slices", type_name(value));
  if (value.is_string()) {
    const std::string& text = value.text();
    need_room(text.size());
    if (bound(step).value_or(1) == 1) {  // without a list of characters
      const std::vector<size_t> indices = slice_indices(length_of(value), begin, end, step);
      if (indices.empty()) return Value(std::string(), value.is_markup());
      const size_t first = byte_of(text, indices.front());
      const std::string_view rest = std::string_view(text).substr(first);
      return Value(std::string(rest.substr(0, byte_of(rest, indices.size()))), value.is_markup());
    }
    const std::vector<std::string_view> all = characters(text);
    std::string cut;
    for (const size_t i : slice_indices(static_cast<int64_t>(all.size()), begin, end, step)) cut += all[i];
    return Value(std::move(cut), value.is_markup());
  }
  Values cut;
  const std::vector<size_t> indices = slice_indices(length_of(value), begin, end, step);
  need_room(indices.size() * sizeof(Value));
  for (const size_t i : indices) cut.push_back(value.items()[i]);
  if (value.is(Type::list)) return Value::list(std::move(cut));
  if (value.is(Type::tuple)) return Value::tuple(std::move(cut));
  const Range& range = value.as<Range>();
  const int64_t by = range.step * bound(step).value_or(1);
  const int64_t first = indices.empty() ? 0 : range.items[indices.front()].integer();
  const int64_t stop = first + by * static_cast<int64_t>(indices.size());
  return Value(Type::range, std::make_shared<Range>(std::move(cut), first, stop, by));
}

}  // namespace moe::jinja
