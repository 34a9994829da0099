#include "base/error.h"
#include "template/arguments.h"
#include "template/filters.h"
#include "template/formatting.h"
#include "template/letter_case.h"
#include "template/methods.h"
#include "template/operators.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

// The value as text. A value that is text stays unchanged, with its mark.
Value soft_text(const Value& value) { return value.is_string() ? value : Value(as_text(value)); }

Value like(const Value& original, std::string text) { return Value(std::move(text), original.is_markup()); }

template <std::string (*change)(std::string_view)>
Value changed(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "the filter", {});
  const Value text = soft_text(value);
  return like(text, change(text.text()));
}

Value string(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "string", {});
  return soft_text(value);
}

Value trim(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "trim", {"chars"});
  const Value text = soft_text(value);
  spend(text_steps(text.text().size()));
  return like(text, std::string(strip(text.text(), true, true, bound.optional_text(0))));
}

Value replace(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "replace", {"old", "new", "count"}, 2);
  const int64_t limit = bound.given(2) == nullptr ? -1 : bound.integer(2, -1);
  return Value(replaced(as_text(value), as_text(bound.required(0)), as_text(bound.required(1)), limit));
}

// Words begin after white space, dashes and opening brackets.
Value title(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "title", {});
  const Value text = soft_text(value);
  std::string out, word;
  const auto flush = [&] {
    if (word.empty()) return;
    const size_t first = byte_of(word, 1);
    out += upper_case(std::string_view(word).substr(0, first)) + lower_case(std::string_view(word).substr(first));
    word.clear();
  };
  for_each_character(text.text(), [&](std::string_view c) {
    const bool between = is_space(code_point(c)) || c == "-" || c == "(" || c == "{" || c == "[" || c == "<";
    if (between) {
      flush();
      out += c;
    } else {
      word += c;
    }
  });
  flush();
  return like(text, std::move(out));
}

Value center(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "center", {"width"});
  Arguments width;
  width.positional.emplace_back(bound.integer(0, 80));
  return find_string_method("center")->function(soft_text(value), width);
}

Value indent(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "indent", {"width", "first", "blank"});
  std::string by;
  if (bound[0] != nullptr && bound[0]->is_string()) {
    by = bound[0]->text();
  } else {
    const int64_t width = std::max<int64_t>(0, bound.integer(0, 4));
    need_room(static_cast<uint64_t>(width));
    by.assign(static_cast<size_t>(width), ' ');
  }
  value.require_defined();
  if (!value.is_string()) fail("indent needs a string, found '{}'", type_name(value));
  const std::string text = value.text() + "\n";  // so that a line end at the end begins an empty line
  const std::vector<std::string_view> lines = split_lines(text, false);
  const bool blank = bound.truth(2, false);
  std::string out = bound.truth(1, false) ? by : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    need_room(out.size() + by.size() + lines[i].size());
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += by;
    out += lines[i];
  }
  return like(value, std::move(out));
}

Value truncate(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "truncate", {"length", "killwords", "end", "leeway"});
  const int64_t length = bound.integer(0, 255);
  const std::string_view end = bound.text(2, "...");
  const int64_t leeway = bound.given(3) == nullptr ? 5 : bound.integer(3, 5);
  const auto end_length = static_cast<int64_t>(code_points(end));
  if (length < end_length) fail("truncate needs a length of at least {}, found {}", end_length, length);
  if (leeway < 0) fail("truncate needs a leeway that is not negative, found {}", leeway);
  if (length_of(value) <= length + leeway) return value;
  if (!value.is_string()) fail("truncate needs a string, found '{}'", type_name(value));
  std::string_view kept =
      std::string_view(value.text()).substr(0, byte_of(value.text(), static_cast<size_t>(length - end_length)));
  if (!bound.truth(1, false)) kept = kept.substr(0, kept.rfind(' '));
  return add(like(value, std::string(kept)), bound[2] != nullptr ? *bound[2] : Value("..."));
}

Value wordcount(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "wordcount", {});
  int64_t words = 0;
  bool inside = false;
  for_each_character(as_text(value), [&](std::string_view bytes) {
    const char32_t c = code_point(bytes);
    const bool in_word = c == '_' || is_alnum(c);
    words += in_word && !inside;
    inside = in_word;
  });
  return Value(words);
}

Value format(const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    fail("format takes either positional or named arguments");
  }
  if (arguments.named.empty()) return percent_formatted(soft_text(value), Value::tuple(arguments.positional));
  auto named = std::make_shared<Dict>();
  for (const auto& [name, each] : arguments.named) named->set(name, each);
  return percent_formatted(soft_text(value), Value::dict(std::move(named)));
}

Value tojson(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.truth(0, false);
  style.sort_keys = bound.truth(3, false);
  if (const Value* indent = bound.given(1)) {
    if (indent->is_string()) {
      style.indent = indent->text();
    } else {
      const int64_t width = std::max<int64_t>(0, bound.integer(1, 0));
      if (width > 1000) fail("tojson was asked for an indent of {} blanks", width);
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
    style.item_separator.assign(1, ',');
  }
  if (const Value* separators = bound.given(2)) {
    const Values parts = items_of(*separators);
    if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string()) {
      fail("tojson needs two strings as separators");
    }
    style.item_separator = parts[0].text();
    style.key_separator = parts[1].text();
  }
  return Value(json_dump(value, style));
}

}  // namespace

std::vector<Filter> text_filters() {
  return {{"capitalize", changed<capitalized>},
          {"center", center},
          {"format", format},
          {"indent", indent},
          {"lower", changed<lower_case>},
          {"replace", replace},
          {"string", string},
          {"title", title},
          {"tojson", tojson},
          {"trim", trim},
          {"truncate", truncate},
          {"upper", changed<upper_case>},
          {"wordcount", wordcount}};
}

}  // namespace moe::jinja
