#include <algorithm>
#include <array>

#include "base/error.h"
#include "template/arguments.h"
#include "template/formatting.h"
#include "template/letter_case.h"
#include "template/methods.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

// The text that a method makes is marked as HTML if the method's own text is.
Value like(const Value& self, std::string text) { return Value(std::move(text), self.is_markup()); }

template <std::string (*change)(std::string_view)>
Value changed(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "the method", {});
  return like(self, change(self.text()));
}

template <bool left, bool right>
Value stripped(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "strip", {"chars"});
  spend(text_steps(self.text().size()));
  return like(self, std::string(strip(self.text(), left, right, bound.optional_text(0))));
}

template <bool from_right>
Value split_method(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "split", {"sep", "maxsplit"});
  Values pieces;
  for (const std::string_view piece : split(self.text(), bound.optional_text(0), bound.integer(1, -1), from_right)) {
    pieces.push_back(like(self, std::string(piece)));
  }
  return Value::list(std::move(pieces));
}

Value splitlines(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "splitlines", {"keepends"});
  Values lines;
  for (const std::string_view line : split_lines(self.text(), bound.truth(0, false))) {
    lines.push_back(like(self, std::string(line)));
  }
  return Value::list(std::move(lines));
}

template <bool from_right>
Value partition(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "partition", {"sep"}, 1);
  const std::string_view text = self.text(), separator = bound.text(0, {});
  if (separator.empty()) fail("empty separator");
  spend(text_steps(text.size()));
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  const auto part = [&](std::string_view piece) { return like(self, std::string(piece)); };
  if (at == std::string_view::npos) {
    return from_right ? Value::tuple({part(""), part(""), self}) : Value::tuple({self, part(""), part("")});
  }
  return Value::tuple({part(text.substr(0, at)), part(separator), part(text.substr(at + separator.size()))});
}

// The part of the text between the code points `start` and `end` of the arguments `from` and `from + 1`; the index of
// its first code point in `offset`.
std::string_view part_of(const Value& self, const Bound& bound, size_t from, int64_t& offset) {
  const std::string_view text = self.text();
  offset = 0;
  if (bound.given(from) == nullptr && bound.given(from + 1) == nullptr) return text;
  const int64_t length = length_of(self);
  const auto at = [&](int64_t index) { return index < 0 ? std::max<int64_t>(0, index + length) : index; };
  const int64_t start = at(bound.given(from) != nullptr ? bound.integer(from, 0) : 0);
  const int64_t end = std::min(length, at(bound.given(from + 1) != nullptr ? bound.integer(from + 1, 0) : length));
  offset = start;
  if (start > end) return {};
  const size_t first = byte_of(text, static_cast<size_t>(start));
  return text.substr(first, byte_of(text, static_cast<size_t>(end)) - first);
}

template <bool at_end>
Value affix(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, at_end ? "endswith" : "startswith", {"affix", "start", "end"}, 1);
  int64_t offset = 0;
  const std::string_view text = part_of(self, bound, 1, offset);
  const auto fits = [&](const Value& value) {
    value.require_defined();
    if (!value.is_string()) fail("startswith and endswith need a string or a tuple, found '{}'", type_name(value));
    return at_end ? text.ends_with(value.text()) : text.starts_with(value.text());
  };
  const Value& wanted = bound.required(0);
  if (!wanted.is(Type::tuple)) return Value(fits(wanted));
  return Value(std::any_of(wanted.items().begin(), wanted.items().end(), fits));
}

template <bool from_right, bool must>
Value find_text(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, must ? "index" : "find", {"sub", "start", "end"}, 1);
  int64_t offset = 0;
  const std::string_view text = part_of(self, bound, 1, offset);
  const std::string_view wanted = bound.text(0, {});
  spend(text_steps(text.size()));
  const bool beyond = offset > length_of(self);
  const size_t at = beyond ? std::string_view::npos : from_right ? text.rfind(wanted) : text.find(wanted);
  if (at != std::string_view::npos) return Value(offset + static_cast<int64_t>(code_points(text.substr(0, at))));
  if (must) fail("substring not found");
  return Value(int64_t{-1});
}

Value count(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "count", {"sub", "start", "end"}, 1);
  int64_t offset = 0;
  const std::string_view text = part_of(self, bound, 1, offset), wanted = bound.text(0, {});
  spend(text_steps(text.size()));
  if (wanted.empty()) return Value(static_cast<int64_t>(code_points(text)) + 1);
  int64_t found = 0;
  for (size_t at = text.find(wanted); at != std::string_view::npos; at = text.find(wanted, at + wanted.size())) ++found;
  return Value(found);
}

Value replace(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "replace", {"old", "new", "count"}, 2);
  std::string by(bound.text(1, {}));
  if (self.is_markup() && !bound.required(1).is_markup()) by = html_escaped(by);
  return like(self, replaced(self.text(), bound.text(0, {}), by, bound.integer(2, -1)));
}

Value join(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "join", {"iterable"}, 1);
  std::string text;
  const Values items = items_of(bound.required(0));
  for (size_t i = 0; i < items.size(); ++i) {
    const bool escape = self.is_markup() && !items[i].is_markup();
    if (!items[i].is_string()) fail("sequence item {}: expected str instance, {} found", i, type_name(items[i]));
    if (i > 0) text += self.text();
    need_room(text.size() + items[i].text().size());
    text += escape ? html_escaped(items[i].text()) : items[i].text();
  }
  return like(self, std::move(text));
}

// Fills up to the width: `before` says how many copies come before the text; the others come after it.
template <class Before>
Value filled(const Value& self, const Arguments& arguments, const char* name, Before before) {
  const Bound bound(arguments, name, {"width", "fillchar"}, 1);
  const std::string_view fill = bound.text(1, " ");
  if (code_points(fill) != 1) fail("The fill character must be exactly one character long");
  const int64_t missing = std::max<int64_t>(0, bound.integer(0, 0) - length_of(self));
  need_room(static_cast<uint64_t>(missing) * fill.size() + self.text().size());
  std::string text;
  const int64_t ahead = before(missing, bound.integer(0, 0));
  for (int64_t i = 0; i < ahead; ++i) text += fill;
  text += self.text();
  for (int64_t i = ahead; i < missing; ++i) text += fill;
  return like(self, std::move(text));
}

Value center(const Value& self, const Arguments& arguments) {
  // If the width is odd, Python puts the extra one before the text.
  return filled(self, arguments, "center",
                [](int64_t missing, int64_t width) { return missing / 2 + (missing & width & 1); });
}

Value ljust(const Value& self, const Arguments& arguments) {
  return filled(self, arguments, "ljust", [](int64_t, int64_t) { return int64_t{0}; });
}

Value rjust(const Value& self, const Arguments& arguments) {
  return filled(self, arguments, "rjust", [](int64_t missing, int64_t) { return missing; });
}

Value zfill(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "zfill", {"width"}, 1);
  const int64_t missing = std::max<int64_t>(0, bound.integer(0, 0) - length_of(self));
  need_room(static_cast<uint64_t>(missing) + self.text().size());
  std::string text = self.text();
  const bool sign = !text.empty() && (text.front() == '+' || text.front() == '-');
  text.insert(sign ? 1 : 0, static_cast<size_t>(missing), '0');
  return like(self, std::move(text));
}

template <bool at_end>
Value remove_affix(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, at_end ? "removesuffix" : "removeprefix", {"affix"}, 1);
  std::string_view text = self.text();
  const std::string_view affix_text = bound.text(0, {});
  if (at_end && text.ends_with(affix_text)) text.remove_suffix(affix_text.size());
  if (!at_end && text.starts_with(affix_text)) text.remove_prefix(affix_text.size());
  return like(self, std::string(text));
}

Value expandtabs(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "expandtabs", {"tabsize"});
  const int64_t size = bound.integer(0, 8);
  if (size > 10'000) fail("a tab of more than 10000 columns");
  std::string text;
  int64_t column = 0;
  for_each_character(self.text(), [&](std::string_view c) {
    if (c == "\t") {
      const int64_t blanks = size <= 0 ? 0 : size - column % size;
      need_room(text.size() + static_cast<size_t>(blanks));
      text.append(static_cast<size_t>(blanks), ' ');
      column += blanks;
    } else {
      text += c;
      column = c == "\n" || c == "\r" ? 0 : column + 1;
    }
  });
  return like(self, std::move(text));
}

Value format(const Value& self, const Arguments& arguments) { return brace_formatted(self, arguments); }

// True where the text is not empty and all characters fit.
template <bool (*fits)(char32_t)>
Value all_of(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "the method", {});
  spend(text_steps(self.text().size()));
  bool all = !self.text().empty();
  for_each_character(self.text(), [&](std::string_view c) { all = all && fits(code_point(c)); });
  return Value(all);
}

// True if there is a cased character and none of another case.
template <bool (*fits)(char32_t)>
Value all_cased(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "the method", {});
  spend(text_steps(self.text().size()));
  bool any = false, other = false;
  for_each_character(self.text(), [&](std::string_view bytes) {
    const char32_t c = code_point(bytes);
    const bool cased = is_lower(c) || is_upper(c) || is_title(c);
    any = any || (cased && fits(c));
    other = other || (cased && !fits(c));
  });
  return Value(any && !other);
}

Value istitle(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "istitle", {});
  bool any = false, wrong = false, inside = false;
  for_each_character(self.text(), [&](std::string_view bytes) {
    const char32_t c = code_point(bytes);
    const bool upper = is_upper(c) || is_title(c), lower = is_lower(c);
    wrong = wrong || (upper && inside) || (lower && !inside);
    any = any || upper || lower;
    inside = upper || lower;
  });
  return Value(any && !wrong);
}

Value isascii(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "isascii", {});
  const std::string& text = self.text();
  return Value(std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

Value isidentifier(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "isidentifier", {});
  bool fits = !self.text().empty(), first = true;
  for_each_character(self.text(), [&](std::string_view bytes) {
    const char32_t c = code_point(bytes);
    fits = fits && (c == '_' || is_alpha(c) || (!first && is_decimal(c)));
    first = false;
  });
  return Value(fits);
}

Value isprintable(const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "isprintable", {});
  bool fits = true;
  for_each_character(self.text(), [&](std::string_view c) { fits = fits && is_printable(code_point(c)); });
  return Value(fits);
}

constexpr std::array<Method, 47> kMethods = {{{"strip", stripped<true, true>},
                                              {"split", split_method<false>},
                                              {"startswith", affix<false>},
                                              {"endswith", affix<true>},
                                              {"replace", replace},
                                              {"lstrip", stripped<true, false>},
                                              {"rstrip", stripped<false, true>},
                                              {"format", format},
                                              {"join", join},
                                              {"upper", changed<upper_case>},
                                              {"lower", changed<lower_case>},
                                              {"title", changed<title_case>},
                                              {"capitalize", changed<capitalized>},
                                              {"casefold", changed<case_folded>},
                                              {"swapcase", changed<swapped_case>},
                                              {"rsplit", split_method<true>},
                                              {"splitlines", splitlines},
                                              {"partition", partition<false>},
                                              {"rpartition", partition<true>},
                                              {"find", find_text<false, false>},
                                              {"rfind", find_text<true, false>},
                                              {"index", find_text<false, true>},
                                              {"rindex", find_text<true, true>},
                                              {"count", count},
                                              {"center", center},
                                              {"ljust", ljust},
                                              {"rjust", rjust},
                                              {"zfill", zfill},
                                              {"removeprefix", remove_affix<false>},
                                              {"removesuffix", remove_affix<true>},
                                              {"expandtabs", expandtabs},
                                              {"isalnum", all_of<is_alnum>},
                                              {"isalpha", all_of<is_alpha>},
                                              {"isdecimal", all_of<is_decimal>},
                                              {"isdigit", all_of<is_digit>},
                                              {"isnumeric", all_of<is_numeric>},
                                              {"isspace", all_of<is_space>},
                                              {"islower", all_cased<is_lower>},
                                              {"isupper", all_cased<is_upper>},
                                              {"istitle", istitle},
                                              {"isascii", isascii},
                                              {"isidentifier", isidentifier},
                                              {"isprintable", isprintable},
                                              {"encode", nullptr},
                                              {"format_map", nullptr},
                                              {"maketrans", nullptr},
                                              {"translate", nullptr}}};

}  // namespace

const Method* find_string_method(std::string_view name) {
  const auto found = std::find_if(kMethods.begin(), kMethods.end(), [&](const Method& m) { return m.name == name; });
  return found == kMethods.end() ? nullptr : &*found;
}

}  // namespace moe::jinja
