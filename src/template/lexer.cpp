#include "template/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "template/string_literal.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

// The longest first.
constexpr std::array<std::string_view, 26> kSymbols = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                       "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                       ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

std::string with_plain_line_ends(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool is_digit_of(char c, int base) {
  if (c >= '0' && c <= '9') return c - '0' < base;
  return base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_line_ends(source)) {}

  std::vector<LexedToken> run() {
    while (at_ < source_.size()) data();
    add(Token::end);
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool next_is(std::string_view text) const { return rest().starts_with(text); }

  int line() {
    for (; counted_ < at_; ++counted_) line_ += source_[counted_] == '\n';
    return line_;
  }

  void add(Token kind, std::string text = {}) { tokens_.push_back({kind, line(), std::move(text)}); }

  void skip_spaces() { at_ = source_.size() - strip(rest(), true, false).size(); }

  // Adds the data before a tag whose sign is `sign` ('-', '+' or 0).
  void add_data(size_t start, size_t end, char sign, bool variable) {
    std::string_view text = std::string_view(source_).substr(start, end - start);
    if (sign == '-') {
      text = strip(text, false, true);
    } else if (sign == 0 && !variable) {
      const size_t newline = text.rfind('\n');
      const bool starts_line = newline != std::string_view::npos || start == 0 || source_[start - 1] == '\n';
      const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
      if (starts_line && strip(text.substr(begin), true, false).empty()) text = text.substr(0, begin);
    }
    if (text.empty()) return;
    const size_t after = at_;
    at_ = std::max(start, counted_);
    add(Token::data, std::string(text));
    at_ = after;
  }

  char take_sign() {
    if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) return source_[at_++];
    return 0;
  }

  // Text up to the next tag, and that tag.
  void data() {
    const size_t start = at_;
    size_t tag = start;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        add_data(start, source_.size(), '+', true);
        at_ = source_.size();
        return;
      }
      const char second = source_[tag + 1];
      if (second == '%' || second == '{' || second == '#') break;
    }
    const char kind = source_[tag + 1];
    at_ = tag + 2;
    const char sign = take_sign();
    add_data(start, tag, sign, kind == '{');
    if (kind == '#') return comment();
    if (kind == '%' && raw()) return;
    add(kind == '{' ? Token::variable_begin : Token::block_begin);
    expression(kind == '{');
  }

  void comment() {
    const int begun = line();
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail_syntax(begun, "a comment has no end (#}})");
    const char sign = end > at_ ? source_[end - 1] : 0;
    at_ = end + 2;
    after_block_end(sign);
  }

  // White space after the end of a block or comment.
  void after_block_end(char sign) {
    if (sign == '-') {
      skip_spaces();
    } else if (sign != '+' && next_is("\n")) {
      ++at_;
    }
  }

  // {% raw %} ... {% endraw %}; its beginning up to the sign has been read. Returns false for another block.
  bool raw() {
    const size_t start = at_;
    skip_spaces();
    if (!next_is("raw")) return at_ = start, false;
    at_ += 3;
    skip_spaces();
    if (next_is("-%}")) {
      at_ += 3;
      skip_spaces();
    } else if (next_is("%}")) {
      at_ += 2;
    } else {
      return at_ = start, false;
    }
    const int begun = line();
    const size_t body = at_;
    for (size_t tag = source_.find("{%", body); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      at_ = tag + 2;
      const char sign = take_sign();
      skip_spaces();
      if (!next_is("endraw")) continue;
      at_ += 6;
      skip_spaces();
      const char end_sign = take_sign();
      if (!next_is("%}")) continue;
      const size_t end = at_ + 2;
      at_ = tag;
      add_data(body, tag, sign, false);
      at_ = end;
      after_block_end(end_sign);
      return true;
    }
    fail_syntax(begun, "a raw block has no end ({{% endraw %}})");
  }

  bool end_of_tag(bool variable) {
    if (!open_.empty()) return false;
    const std::string_view end = variable ? "}}" : "%}";
    const bool signed_end = next_is(variable ? "-}}" : "-%}") || (!variable && next_is("+%}"));
    if (!signed_end && !next_is(end)) return false;
    const char sign = signed_end ? source_[at_] : 0;
    add(variable ? Token::variable_end : Token::block_end);
    at_ += signed_end ? 3 : 2;
    if (!variable) {
      after_block_end(sign);
    } else if (sign == '-') {
      skip_spaces();
    }
    return true;
  }

  void expression(bool variable) {
    for (;;) {
      skip_spaces();
      if (at_ >= source_.size()) fail_syntax(line(), "the template ends inside a tag");
      if (end_of_tag(variable)) return;
      const char c = source_[at_];
      if (c >= '0' && c <= '9') {
        number();
      } else if (c == '"' || c == '\'') {
        string(c);
      } else if (!name()) {
        symbol();
      }
    }
  }

  bool name() {
    const size_t start = at_;
    while (at_ < source_.size()) {
      const size_t length = std::max<size_t>(1, utf8_length(rest()));
      const char32_t c = code_point(rest().substr(0, length));
      if (c != '_' && !is_alnum(c)) break;
      at_ += length;
    }
    if (at_ == start) return false;
    std::string text = source_.substr(start, at_ - start);
    at_ = start;
    const int where = line();
    at_ = start + text.size();
    if (is_numeric(code_point(std::string_view(text).substr(0, std::max<size_t>(1, utf8_length(text)))))) {
      fail_syntax(where, "\"{}\" is no name", text);
    }
    tokens_.push_back({Token::name, where, std::move(text)});
    return true;
  }

  // Appends digits with single underscores between them to `digits`; false if there are none.
  bool digits(size_t& at, int base, std::string& out, bool may_begin_with_underscore = false) const {
    bool any = false;
    for (;;) {
      size_t next = at;
      if (next < source_.size() && source_[next] == '_' && (any || may_begin_with_underscore)) ++next;
      if (next >= source_.size() || !is_digit_of(source_[next], base)) return any;
      out += source_[next];
      at = next + 1;
      any = true;
    }
  }

  void number() {
    const int where = line();
    const auto lower = [&](size_t at) { return at < source_.size() ? static_cast<char>(source_[at] | 0x20) : '\0'; };
    std::string text;
    size_t end = at_;
    digits(end, 10, text);
    bool real = false;
    if (at_ == 0 || source_[at_ - 1] != '.') {
      size_t at = end;
      std::string fraction = ".", exponent = "e";
      if (at < source_.size() && source_[at] == '.' && digits(++at, 10, fraction)) {
        text += fraction;
        end = at;
        real = true;
      }
      if (lower(end) == 'e') {
        at = end + 1;
        if (at < source_.size() && (source_[at] == '+' || source_[at] == '-')) exponent += source_[at++];
        if (digits(at, 10, exponent)) {
          text += exponent;
          end = at;
          real = true;
        }
      }
    }
    LexedToken token{real ? Token::real : Token::integer, where, {}};
    if (real) {
      at_ = end;
      std::from_chars(text.data(), text.data() + text.size(), token.real);
    } else {
      token.integer = integer(where);
    }
    tokens_.push_back(std::move(token));
  }

  int64_t integer(int where) {
    const char letter =
        at_ + 1 < source_.size() && source_[at_] == '0' ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
    const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    std::string text;
    size_t end = at_ + 2;
    if (base != 10 && digits(end, base, text, true)) {
      at_ = end;
    } else if (source_[at_] == '0') {  // zeros alone: what follows is another number
      for (++at_; at_ < source_.size() && (source_[at_] == '0' || (source_[at_] == '_' && at_ + 1 < source_.size() &&
                                                                   source_[at_ + 1] == '0'));)
        ++at_;
      return 0;
    } else {
      end = at_;
      digits(end, 10, text);
      at_ = end;
    }
    int64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc()) fail_syntax(where, "the number {} is more than 64 bits hold", text);
    return value;
  }

  void string(char quote) {
    const int where = line();
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail_syntax(where, "a string has no end ({})", quote);
    std::string text = unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1), where);
    tokens_.push_back({Token::string, where, std::move(text)});
    at_ = end + 1;
  }

  void symbol() {
    const auto symbol = std::find_if(kSymbols.begin(), kSymbols.end(), [&](std::string_view s) { return next_is(s); });
    if (symbol == kSymbols.end()) {
      fail_syntax(line(), "unexpected character '{}'", rest().substr(0, std::max<size_t>(1, utf8_length(rest()))));
    }
    const char c = symbol->front();
    if (c == '{' || c == '(' || c == '[') open_ += c == '{' ? '}' : c == '(' ? ')' : ']';
    if (c == '}' || c == ')' || c == ']') {
      if (open_.empty()) fail_syntax(line(), "unexpected '{}'", c);
      if (open_.back() != c) fail_syntax(line(), "unexpected '{}', expected '{}'", c, open_.back());
      open_.pop_back();
    }
    add(Token::symbol, std::string(*symbol));
    at_ += symbol->size();
  }

  std::string source_;
  size_t at_ = 0;
  size_t counted_ = 0;  // number of bytes whose line ends are counted in line_
  int line_ = 1;
  std::string open_;  // closing brackets that are still expected
  std::vector<LexedToken> tokens_;
};

}  // namespace

std::vector<LexedToken> lex(std::string_view source) { return Lexer(source).run(); }

}  // namespace moe::jinja
