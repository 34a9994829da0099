#include <algorithm>
#include <utility>

#include "base/error.h"
#include "template/arguments.h"
#include "template/attributes.h"
#include "template/filters.h"
#include "template/methods.h"
#include "template/operators.h"
#include "template/paths.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

const Value& argument_or_none(const Bound& bound, size_t i) {
  static const Value none = Value::none();
  return bound[i] == nullptr ? none : *bound[i];
}

Value default_value(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "default", {"default_value", "boolean"});
  const bool missing = value.is_undefined() || (bound.truth(1, false) && !value.truth());
  if (!missing) return value;
  return bound[0] != nullptr ? *bound[0] : Value("");
}

Value length(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "length", {});
  return Value(length_of(value));
}

Value list(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "list", {});
  return Value::list(items_of(value));
}

Value join(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "join", {"d", "attribute"});
  const std::string between = bound[0] == nullptr ? "" : as_text(*bound[0]);
  const Path path(argument_or_none(bound, 1));
  std::string text;
  bool first = true;
  for (const Value& item : items_of(value)) {
    if (!first) text += between;
    first = false;
    text += as_text(path.of(item));
    need_room(text.size());
  }
  return Value(std::move(text));
}

Value first(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "first", {});
  if (value.is(Type::generator)) {
    Generator& generator = value.as<Generator>();
    if (generator.next < generator.items.size()) return generator.items[generator.next++];
  } else {
    const Values items = items_of(value);
    if (!items.empty()) return items.front();
  }
  return Value::undefined("No first item, sequence was empty.");
}

Value last(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "last", {});
  if (value.is(Type::generator)) fail("'generator' object is not reversible");
  const Values items = items_of(value);
  if (items.empty()) return Value::undefined("No last item, sequence was empty.");
  return value.is_markup() ? Value(items.back().text(), true) : items.back();
}

Value reverse(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "reverse", {});
  if (value.is_string()) return get_slice(value, Value::none(), Value::none(), Value(int64_t{-1}));
  if (!can_iterate(value)) fail("argument must be iterable");
  Values items = items_of(value);
  std::reverse(items.begin(), items.end());
  return value.is(Type::generator) ? Value::list(std::move(items)) : Value::generator(std::move(items));
}

Value pairs_of(const Dict& dict, Value (*make)(Values)) {
  Values pairs;
  for (const auto& [key, value] : dict.entries) pairs.push_back(Value::tuple({key, value}));
  return make(std::move(pairs));
}

Value items(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "items", {});
  if (value.is_undefined()) return Value::generator({});
  if (!value.is(Type::dict)) fail("Can only get item pairs from a mapping.");
  return pairs_of(value.dict(), Value::generator);
}

// Items with the keys by which they are compared.
struct Keyed {
  Values key;
  Value item;
};

int compare_keys(const Keyed& a, const Keyed& b) {
  for (size_t i = 0; i < a.key.size(); ++i) {
    if (equal(a.key[i], b.key[i])) continue;
    return compare(a.key[i], b.key[i]);
  }
  return 0;
}

Values sorted(std::vector<Keyed> keyed, bool reverse) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? compare_keys(b, a) == -1 : compare_keys(a, b) == -1;
  });
  Values items;
  for (Keyed& each : keyed) items.push_back(std::move(each.item));
  return items;
}

std::vector<Keyed> keyed(const Value& value, const std::vector<Path>& paths, bool case_sensitive) {
  std::vector<Keyed> all;
  for (const Value& item : items_of(value)) {
    Keyed each{{}, item};
    for (const Path& path : paths) each.key.push_back(case_sensitive ? path.of(item) : without_case(path.of(item)));
    all.push_back(std::move(each));
  }
  return all;
}

Value sort(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  const std::vector<Path> paths = paths_of(argument_or_none(bound, 2));
  return Value::list(sorted(keyed(value, paths, bound.truth(1, false)), bound.truth(0, false)));
}

Value dictsort(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string_view by = bound.text(1, "key");
  if (by != "key" && by != "value") fail("dictsort sorts by \"key\" or \"value\", not by \"{}\"", by);
  value.require_defined();
  if (!value.is(Type::dict)) fail("dictsort needs a mapping, found '{}'", type_name(value));
  const std::vector<Path> paths = {Path(Value(int64_t{by == "value"}))};
  return Value::list(
      sorted(keyed(pairs_of(value.dict(), Value::list), paths, bound.truth(0, false)), bound.truth(2, false)));
}

Value unique(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "unique", {"case_sensitive", "attribute"});
  Dict seen;
  Values kept;
  for (Keyed& each : keyed(value, {Path(argument_or_none(bound, 1))}, bound.truth(0, false))) {
    require_hashable(each.key[0]);
    if (seen.find(each.key[0]) != nullptr) continue;
    seen.set(each.key[0], Value(true));
    kept.push_back(std::move(each.item));
  }
  return Value::generator(std::move(kept));
}

template <int wanted>
Value extreme(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, wanted < 0 ? "min" : "max", {"case_sensitive", "attribute"});
  const std::vector<Keyed> all = keyed(value, {Path(argument_or_none(bound, 1))}, bound.truth(0, false));
  if (all.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const Keyed* best = &all.front();
  for (const Keyed& each : all) {
    if (&each != best && compare(each.key[0], best->key[0]) == wanted) best = &each;
  }
  return best->item;
}

Value groupby(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const Path path(bound.required(0));
  const bool case_sensitive = bound.truth(2, false);
  const auto real_key = [&](const Value& item) {
    const Value key = path.of(item);
    return key.is_undefined() && bound.given(1) != nullptr ? *bound[1] : key;
  };
  std::vector<Keyed> all;
  for (const Value& item : items_of(value)) {
    all.push_back({{case_sensitive ? real_key(item) : without_case(real_key(item))}, item});
  }
  const auto key_of = [&](const Value& item) { return case_sensitive ? real_key(item) : without_case(real_key(item)); };
  Values groups;
  Values members;
  const auto flush = [&] {
    if (members.empty()) return;
    Values parts = {real_key(members.front()), Value::list(members)};
    groups.push_back(Value(Type::tuple, std::make_shared<GroupTuple>(std::move(parts))));
    members.clear();
  };
  for (const Value& item : sorted(std::move(all), false)) {
    if (!members.empty() && !equal(key_of(members.front()), key_of(item))) flush();
    members.push_back(item);
  }
  flush();
  return Value::list(std::move(groups));
}

Value sum(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "sum", {"attribute", "start"});
  const Path path(argument_or_none(bound, 0));
  Value total = bound[1] == nullptr ? Value(int64_t{0}) : *bound[1];
  if (total.is_string()) fail("sum() can't sum strings");
  for (const Value& item : items_of(value)) total = add(total, path.of(item));
  return total;
}

Value batch(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "batch", {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 0);
  Values rows, row;
  for (const Value& item : items_of(value)) {
    if (static_cast<int64_t>(row.size()) == size) rows.push_back(Value::list(std::exchange(row, Values{})));
    row.push_back(item);
  }
  if (!row.empty()) {
    need_room(static_cast<uint64_t>(std::max<int64_t>(0, size)) * sizeof(Value));
    while (bound.given(1) != nullptr && static_cast<int64_t>(row.size()) < size) row.push_back(*bound[1]);
    rows.push_back(Value::list(std::move(row)));
  }
  return Value::generator(std::move(rows));
}

Value slice(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "slice", {"slices", "fill_with"}, 1);
  const Values all = items_of(value);
  const int64_t count = bound.integer(0, 0);
  if (count == 0) fail("integer division or modulo by zero");
  if (count < 0) return Value::generator({});
  need_room(static_cast<uint64_t>(count) * sizeof(Value) * 4);
  const auto size = static_cast<int64_t>(all.size());
  const int64_t each = size / count, longer = size % count;
  Values slices;
  int64_t at = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t end = at + each + (i < longer);
    Values part(all.begin() + at, all.begin() + end);
    if (bound.given(1) != nullptr && i >= longer) part.push_back(*bound[1]);
    slices.push_back(Value::list(std::move(part)));
    at = end;
  }
  return Value::generator(std::move(slices));
}

}  // namespace

std::vector<Filter> list_filters() {
  return {{"batch", batch},       {"count", length},    {"d", default_value}, {"default", default_value},
          {"dictsort", dictsort}, {"first", first},     {"groupby", groupby}, {"items", items},
          {"join", join},         {"last", last},       {"length", length},   {"list", list},
          {"max", extreme<1>},    {"min", extreme<-1>}, {"reverse", reverse}, {"slice", slice},
          {"sort", sort},         {"sum", sum},         {"unique", unique}};
}

}  // namespace moe::jinja
