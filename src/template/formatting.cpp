#include "template/formatting.h"

#include "base/error.h"
#include "template/attributes.h"
#include "template/digits.h"
#include "template/number_format.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

std::string escaped_if(bool markup, const Value& value, std::string text) {
  return markup && !value.is_markup() ? html_escaped(text) : std::move(text);
}

std::string ascii_shown(const Value& value) {
  std::string out;
  for_each_character(shown(value), [&](std::string_view bytes) {
    const auto c = static_cast<uint32_t>(code_point(bytes));
    if (c < 0x80) {
      out += bytes;
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += c < 0x10000 ? fmt::format("\\u{:04x}", c) : fmt::format("\\U{:08x}", c);
    }
  });
  return out;
}

// One "%..." of a format.
class PercentFormat {
 public:
  PercentFormat(const Value& format, const Value& arguments)
      : markup_(format.is_markup()), rest_(format.text()), arguments_(arguments) {}

  std::string run() {
    std::string out;
    while (!rest_.empty()) {
      const size_t percent = std::min(rest_.find('%'), rest_.size());
      out += rest_.substr(0, percent);
      rest_.remove_prefix(percent);
      if (!rest_.empty()) out += conversion();
      need_room(out.size());
    }
    const bool left =
        arguments_.is(Type::tuple) ? used_ < arguments_.items().size() : used_ == 0 && !named_ && !is_mapping();
    if (left) fail("not all arguments converted during string formatting");
    return out;
  }

 private:
  // What Python can subscript; nothing needs to be taken from it.
  bool is_mapping() const {
    const Value& a = arguments_;
    return a.is(Type::dict) || a.is(Type::list) || a.is(Type::range) || a.is_undefined();
  }

  char take() {
    if (rest_.empty()) fail("incomplete format");
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  const Value& next() {
    if (arguments_.is(Type::tuple)) {
      if (used_ >= arguments_.items().size()) fail("not enough arguments for format string");
      return arguments_.items()[used_++];
    }
    if (used_++ > 0) fail("not enough arguments for format string");
    return arguments_;
  }

  int64_t number(char& c) {
    if (c == '*') {
      const Value& value = next();
      if (!value.is_integral()) fail("* wants int");
      c = take();
      return value.integer();
    }
    int64_t value = 0;
    for (; c >= '0' && c <= '9'; c = take()) {
      value = value * 10 + (c - '0');
      if (value > 1'000'000) fail("a format asks for more than 1000000 characters");
    }
    return value;
  }

  std::string conversion() {
    take();
    FormatSpec spec;
    spec.align = '>';
    char c = take();
    const Value* member = nullptr;
    if (c == '(') {
      const size_t end = rest_.find(')');
      if (end == std::string_view::npos) fail("incomplete format key");
      if (!arguments_.is(Type::dict)) fail("format requires a mapping");
      member = arguments_.dict().find(rest_.substr(0, end));
      if (member == nullptr) fail("the format's key '{}' is missing", rest_.substr(0, end));
      named_ = true;
      rest_.remove_prefix(end + 1);
      c = take();
    }
    bool left = false, zero = false;
    for (;; c = take()) {
      if (c == '-')
        left = true;
      else if (c == '+')
        spec.sign = '+';
      else if (c == ' ')
        spec.sign = spec.sign == '+' ? '+' : ' ';
      else if (c == '#')
        spec.alternate = true;
      else if (c == '0')
        zero = true;
      else
        break;
    }
    spec.width = number(c);
    if (spec.width < 0) left = true, spec.width = -spec.width;
    if (c == '.') {
      c = take();
      spec.precision = std::max<int64_t>(0, number(c));
    }
    while (c == 'l' || c == 'h' || c == 'L') c = take();
    if (left) spec.align = '<';
    if (c == '%') return "%";
    const Value value = member != nullptr ? *member : next();
    if (c == 's' || c == 'r' || c == 'a') {
      std::string text = c == 's' ? as_text(value) : c == 'r' ? shown(value) : ascii_shown(value);
      text = escaped_if(markup_, value, std::move(text));
      spec.sign = '-';
      return format_text(text, spec);
    }
    if (c == 'c' && value.is_string()) {
      if (code_points(value.text()) != 1) fail("%c requires int or char");
      return format_text(value.text(), spec);
    }
    if (zero && !left) spec.fill.assign(1, '0'), spec.align = '=';
    return number_conversion(c, value, spec);
  }

  std::string number_conversion(char c, const Value& value, FormatSpec spec) {
    value.require_defined();
    if (std::string_view("diuoxXceEfFgG").find(c) == std::string_view::npos)
      fail("unsupported format character '{}'", c);
    if (!value.is_number()) fail("%{} format: a number is required, not {}", c, type_name(value));
    const bool real = std::string_view("eEfFgG").find(c) != std::string_view::npos;
    spec.type = c == 'i' || c == 'u' ? 'd' : c;
    if (real) return format_real(value.real(), spec);
    if (value.is(Type::real) && (spec.type != 'd')) fail("%{} format: an integer is required, not float", c);
    const int64_t integer = value.is(Type::real) ? whole_part(value.real()) : value.integer();
    if (spec.precision >= 0 && spec.type != 'c') {  // at least so many digits
      FormatSpec digits;
      digits.type = spec.type;
      digits.fill.assign(1, '0');
      digits.align = '=';
      digits.width = spec.precision + (integer < 0 ? 1 : 0);
      std::string text = format_integer(integer, digits);
      if (integer >= 0 && spec.sign != '-') text.insert(0, 1, spec.sign);
      spec.precision = -1;
      spec.sign = '-';
      if (spec.align == '=') spec.align = '>';
      spec.type = 0;
      spec.fill.assign(1, ' ');
      return format_text(text, spec);
    }
    spec.precision = -1;
    return format_integer(integer, spec);
  }

  bool markup_;
  std::string_view rest_;
  const Value& arguments_;
  size_t used_ = 0;
  bool named_ = false;
};

class BraceFormat {
 public:
  BraceFormat(const Value& format, const Arguments& arguments) : markup_(format.is_markup()), arguments_(arguments) {}

  std::string run(std::string_view format, int depth = 0) {
    if (depth > 2) fail("Max string recursion exceeded");
    std::string out;
    for (size_t at = 0; at < format.size();) {
      const char c = format[at];
      if ((c == '{' || c == '}') && at + 1 < format.size() && format[at + 1] == c) {
        out += c;
        at += 2;
      } else if (c == '}') {
        fail("Single '}}' encountered in format string");
      } else if (c == '{') {
        const size_t end = end_of_field(format, at);
        out += field(format.substr(at + 1, end - at - 1), depth);
        at = end + 1;
      } else {
        out += c;
        ++at;
      }
      if ((at & 0xFF) == 0) need_room(out.size());
    }
    return out;
  }

 private:
  static size_t end_of_field(std::string_view format, size_t at) {
    int open = 0;
    for (size_t i = at; i < format.size(); ++i) {
      if (format[i] == '[') {  // a key may hold braces
        const size_t close = format.find(']', i);
        const size_t colon = format.substr(at, i - at).find(':');
        if (close != std::string_view::npos && colon == std::string_view::npos) i = close;
        continue;
      }
      if (format[i] == '{') ++open;
      if (format[i] == '}' && --open == 0) return i;
    }
    fail("expected '}}' before end of string");
  }

  std::string field(std::string_view text, int depth) {
    const size_t name_end = std::min(text.find_first_of(":!["), text.size());
    size_t end = name_end;
    while (end < text.size() && text[end] == '[') {
      const size_t close = text.find(']', end);
      if (close == std::string_view::npos) fail("Missing ']' in format string");
      end = std::min(text.find_first_of(":![", close), text.size());
    }
    const Value value = member(text.substr(0, end));
    text.remove_prefix(end);
    char conversion = 0;
    if (text.starts_with('!')) {
      if (text.size() < 2) fail("end of string while looking for conversion specifier");
      conversion = text[1];
      text.remove_prefix(2);
      if (!text.empty() && text.front() != ':') fail("expected ':' after conversion specifier");
    }
    const std::string specification = text.empty() ? "" : run(text.substr(1), depth + 1);
    Value converted = value;
    if (conversion == 's')
      converted = Value(as_text(value));
    else if (conversion == 'r')
      converted = Value(shown(value));
    else if (conversion == 'a')
      converted = Value(ascii_shown(value));
    else if (conversion != 0)
      fail("Unknown conversion specifier '{}'", conversion);
    return escaped_if(markup_, converted, formatted(converted, specification));
  }

  Value member(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = first(path.substr(0, end));
    path.remove_prefix(end);
    while (!path.empty()) {
      const bool attribute = path.front() == '.';
      path.remove_prefix(1);
      const size_t stop = std::min(attribute ? path.find_first_of(".[") : path.find(']'), path.size());
      const std::string name(path.substr(0, stop));
      if (name.empty()) fail("Empty attribute in format string");
      path.remove_prefix(std::min(path.size(), attribute ? stop : stop + 1));
      const bool number = !attribute && name.find_first_not_of("0123456789") == std::string::npos && name.size() < 18;
      value =
          attribute ? get_attribute(value, name) : get_item(value, number ? Value(digits_value(name)) : Value(name));
    }
    return value;
  }

  Value first(std::string_view name) {
    const bool number = name.find_first_not_of("0123456789") == std::string_view::npos;
    if (!number) {
      for (const auto& [key, value] : arguments_.named) {
        if (key == name) return value;
      }
      fail("the format's argument '{}' is missing", name);
    }
    if (name.empty() ? manual_ : counted_ > 0) fail("cannot switch between manual and automatic field numbering");
    if (!name.empty()) manual_ = true;
    if (name.size() > 9) fail("Too many decimal digits in format string");
    const size_t index = name.empty() ? counted_++ : static_cast<size_t>(digits_value(name));
    if (index >= arguments_.positional.size()) fail("the format's argument {} is missing", index);
    return arguments_.positional[index];
  }

  bool markup_;
  const Arguments& arguments_;
  size_t counted_ = 0;
  bool manual_ = false;
};

}  // namespace

std::string formatted(const Value& value, std::string_view specification) {
  if (specification.empty()) return as_text(value);
  if (value.is_string()) return format_text(value.text(), parse_format_spec(specification));
  if (value.is_integral()) return format_integer(value.integer(), parse_format_spec(specification));
  if (value.is(Type::real)) return format_real(value.real(), parse_format_spec(specification));
  fail("unsupported format string passed to {}.__format__", type_name(value));
}

Value percent_formatted(const Value& format, const Value& arguments) {
  return Value(PercentFormat(format, arguments).run(), format.is_markup());
}

Value brace_formatted(const Value& format, const Arguments& arguments) {
  return Value(BraceFormat(format, arguments).run(format.text()), format.is_markup());
}

}  // namespace moe::jinja
