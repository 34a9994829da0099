// Translates Oniguruma's syntax to PCRE2's.

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <utility>

#include "base/error.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode_classes.h"

namespace moe {
namespace {

using unicode::Ranges;

/// A class as a list of ranges, the widest first, because PCRE2 tries them one after the other. No expression uses
/// PCRE2's own tables, because their Unicode version differs from the library's.
std::string written_out(Ranges ranges) {
  std::stable_sort(ranges.begin(), ranges.end(),
                   [](const auto& a, const auto& b) { return a.last - a.first > b.last - b.first; });
  constexpr uint32_t kSurrogates = 0xD800, kSurrogatesEnd = 0xE000;
  std::string text;
  for (auto [first, last] : ranges) {
    if (first >= kSurrogates && first < kSurrogatesEnd) first = kSurrogatesEnd;
    if (last >= kSurrogates && last < kSurrogatesEnd) last = kSurrogates - 1;
    if (first > last) continue;
    text += first == last ? fmt::format("\\x{{{:x}}}", first) : fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", first, last);
  }
  return text.empty() ? R"(\P{Any})" : text;
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) outside_class();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    fail("the regular expression {:?} uses {}, which this program does not match as Oniguruma does", in_, construct);
  }

  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  bool has(size_t ahead) const { return at_ + ahead < in_.size(); }

  void copy(size_t bytes) {
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
  }

  void outside_class() {
    switch (in_[at_]) {
      case '\\':
        return escape(/*in_class=*/{});
      case '[':
        return open_class();
      case '(':
        return group();
      case '{':
        return interval();
      default:
        return copy(1);
    }
  }

  // In Ruby's syntax "{n,m}+" repeats the interval; in PCRE2 it is possessive. "{,m}" is an interval only in Ruby's.
  void interval() {
    size_t end = at_ + 1;
    while (end < in_.size() && (std::isdigit(static_cast<unsigned char>(in_[end])) || in_[end] == ',')) ++end;
    if (end == in_.size() || in_[end] != '}' || end == at_ + 1) return copy(1);
    if (end + 1 < in_.size() && in_[end + 1] == '+') refuse("an interval followed by +");
    if (in_[at_ + 1] == ',') {
      out_ += "{0";
      ++at_;
    }
    copy(end + 1 - at_);
  }

  void group() {
    if (!next_is("(?")) return copy(1);
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (next_is(known)) return copy(known.size());
    }
    size_t end = at_ + 2;
    std::string flags;
    while (end < in_.size() && (in_[end] == 'i' || in_[end] == 'm' || in_[end] == '-')) {
      flags += in_[end] == 'm' ? 's' : in_[end];  // Ruby's m lets a dot match a newline
      ++end;
    }
    const bool closed = end < in_.size() && (in_[end] == ':' || (in_[end] == ')' && at_ == 0));
    // Inside a pattern, Ruby's "(?i)" also applies to the alternatives that follow it.
    if (!closed) refuse(fmt::format("the group {:?}", in_.substr(at_, 4)));
    if (flags.starts_with('i')) check_caseless(end + 1);
    out_ += "(?" + flags + in_[end];
    at_ = end + 1;
  }

  // If case is ignored, Oniguruma lets some characters match two letters (ss and ß, fi and ﬁ); PCRE2 does not. So from
  // `at` to the end of the group, such adjacent letters and characters beyond ASCII are refused.
  void check_caseless(size_t at) const {
    static constexpr std::array<std::string_view, 5> kLetterPairs = {"ss", "st", "ff", "fi", "fl"};
    bool in_class = false;
    std::string literal(1, '\0');  // the last two adjacent characters
    for (int depth = 0; at < in_.size() && depth >= 0; ++at) {
      const char c = in_[at];
      if (static_cast<unsigned char>(c) >= 0x80) refuse("characters beyond ASCII where case is ignored");
      if (c == '[' || c == ']') in_class = c == '[';
      if (!in_class && (c == '(' || c == ')')) depth += c == '(' ? 1 : -1;
      const bool is_letter = !in_class && std::isalpha(static_cast<unsigned char>(c));
      literal = {literal.back(), is_letter ? static_cast<char>(std::tolower(c)) : '\0'};
      if (std::find(kLetterPairs.begin(), kLetterPairs.end(), literal) != kLetterPairs.end()) {
        refuse(fmt::format("\"{}\" where case is ignored", literal));
      }
      if (c == '\\') ++at;
    }
  }

  void open_class() {
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') refuse("an unescaped ] at the start of a class");
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '[') refuse("a class inside a class");
      if (next_is("&&")) refuse("the intersection of classes &&");
      if (in_[at_] == '\\') {
        escape({.in_class = true});
      } else {
        copy(1);
      }
    }
    if (at_ == in_.size()) refuse("a class without its closing ]");
    copy(1);
  }

  struct Place {
    bool in_class = false;
  };

  void escape(Place place) {
    if (!has(1)) refuse("a backslash at its end");
    const char letter = in_[at_ + 1];
    switch (letter) {
      case 'p':
      case 'P':
        return property(place);
      case 's':
      case 'S':
        return set(place, unicode::ranges_of(unicode::kSpaces), letter == 'S', 2);
      case 'w':
      case 'W':
        return set(place, place.in_class ? unicode::word() : unicode::word_outside_class(), letter == 'W', 2);
      case 'd':
      case 'D':
        return set(place, unicode::ranges_of(unicode::kinds(unicode::Nd)), letter == 'D', 2);
      case 'v':
        return replace(R"(\x0b)");
      case 'x':
        return hexadecimal();
      case 'u':
        return four_digits();
      case 'A':
      case 'z':
      case 'Z':
        if (place.in_class) break;
        return copy(2);
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return copy(2);
      default:
        if (!std::isalnum(static_cast<unsigned char>(letter))) return copy(2);
    }
    refuse(fmt::format("\\{}{}", letter, place.in_class ? " inside a class" : ""));
  }

  void replace(std::string_view text) {
    out_ += text;
    at_ += 2;
  }

  void set(Place place, const Ranges& members, bool negative, size_t bytes) {
    const std::string text = written_out(negative ? unicode::complement(members) : members);
    out_ += place.in_class ? text : fmt::format("[{}]", text);
    at_ += bytes;
  }

  void hexadecimal() {
    if (next_is("\\x{")) return copy(3);
    size_t digits = 0;
    while (digits < 2 && has(2 + digits) && std::isxdigit(static_cast<unsigned char>(in_[at_ + 2 + digits]))) ++digits;
    const std::string value(in_.substr(at_ + 2, digits));
    // \xHH is a byte of the encoding in Oniguruma, but a code point in PCRE2.
    if (digits == 0 || std::strtol(value.c_str(), nullptr, 16) >= 0x80) refuse("\\x with a byte above 7F");
    copy(2 + digits);
  }

  void four_digits() {
    const std::string_view digits = in_.substr(std::min(at_ + 2, in_.size()), 4);
    const auto is_hex = [](unsigned char c) { return std::isxdigit(c) != 0; };
    if (digits.size() != 4 || !std::all_of(digits.begin(), digits.end(), is_hex)) refuse("\\u without four digits");
    out_ += fmt::format("\\x{{{}}}", digits);
    at_ += 6;
  }

  void property(Place place) {
    const size_t close = next_is("\\p{") || next_is("\\P{") ? in_.find('}', at_) : std::string_view::npos;
    if (close == std::string_view::npos) refuse("a property without braces");
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    bool negative = in_[at_ + 1] == 'P';
    if (name.starts_with('^')) {
      negative = !negative;
      name.remove_prefix(1);
    }
    std::string lower;
    for (const char c : name) {
      if (c != '_' && c != ' ' && c != '-') lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    const auto members = unicode::property(lower);
    if (!members) refuse(fmt::format("the property {:?}", name));
    set(place, *members, negative, close + 1 - at_);
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string pcre2_pattern(std::string_view oniguruma) { return Translator(oniguruma).run(); }

std::string regex_escape(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    if (std::ispunct(static_cast<unsigned char>(c))) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace moe
