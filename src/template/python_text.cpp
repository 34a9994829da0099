#include "template/python_text.h"

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

// The deepest nesting of values that is shown. Deeper values cannot come from a file (src/formats/json.h), only from a
// template.
constexpr int kDeepest = 600;

class Writer {
 public:
  std::string text;

  void add(const Value& value, bool repr) {
    spend(1);
    if (++depth_ > kDeepest) fail("values inside more than {} others cannot be written", kDeepest);
    switch (value.type()) {
      case Type::undefined:
        text += repr ? "Undefined" : "";
        break;
      case Type::none:
        text += "None";
        break;
      case Type::boolean:
        text += value.boolean() ? "True" : "False";
        break;
      case Type::integer:
        text += fmt::format("{}", value.integer());
        break;
      case Type::real:
        text += float_text(value.real());
        break;
      case Type::string:
        add_string(value, repr);
        break;
      case Type::list:
        add_items("[", value.items(), "]");
        break;
      case Type::tuple:
        add_items("(", value.items(), value.items().size() == 1 ? ",)" : ")");
        break;
      case Type::range:
        add_range(value.as<Range>());
        break;
      case Type::view:
        text += value.as<View>().kind;
        add_items("([", value.items(), "])");
        break;
      case Type::generator:
        text += "<generator object>";
        break;
      case Type::dict:
        add_dict(value.dict());
        break;
      case Type::space:
      case Type::callable:
      case Type::object:
        text += value.object().shown();
        break;
    }
    --depth_;
  }

 private:
  void add_string(const Value& value, bool repr) {
    need_room(text.size() + value.text().size());
    if (!repr) {
      text += value.text();
    } else if (value.is_markup()) {
      text += fmt::format("Markup({})", quoted(value.text()));
    } else {
      text += quoted(value.text());
    }
  }

  void add_items(std::string_view open, const Values& items, std::string_view close) {
    text += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text += ", ";
      add(items[i], true);
    }
    text += close;
  }

  void add_range(const Range& range) {
    text += range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                            : fmt::format("range({}, {}, {})", range.start, range.stop, range.step);
  }

  void add_dict(const Dict& dict) {
    text += "{";
    bool first = true;
    for (const auto& [key, member] : dict.entries) {
      if (!first) text += ", ";
      first = false;
      add(key, true);
      text += ": ";
      add(member, true);
    }
    text += "}";
  }

  int depth_ = 0;
};

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char digits[64];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific).ptr;
  std::string_view scientific(digits, static_cast<size_t>(end - digits));
  const size_t e = scientific.find('e');
  int exponent = 0;
  const size_t sign = scientific[e + 1] == '+' ? 2 : 1;
  std::from_chars(scientific.data() + e + sign, scientific.data() + scientific.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(scientific);
  char fixed[64];
  const auto fixed_end = std::to_chars(fixed, fixed + sizeof fixed, value, std::chars_format::fixed).ptr;
  std::string text(fixed, fixed_end);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string quoted(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  need_room(text.size());
  std::string out(1, quote);
  for_each_character(text, [&](std::string_view bytes) {
    const char32_t c = code_point(bytes);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += bytes;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if ((c >= 0x20 && c < 0x7F) || (c >= 0x80 && is_printable(c))) {
      out += bytes;
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  });
  return out + quote;
}

std::string as_text(const Value& value) {
  if (value.is_string()) return value.text();
  Writer writer;
  writer.add(value, false);
  return std::move(writer.text);
}

std::string shown(const Value& value) {
  Writer writer;
  writer.add(value, true);
  return std::move(writer.text);
}

}  // namespace moe::jinja
