#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

constexpr int kDeepest = 600;

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  std::string text;

  void add(const Value& value) {
    spend(1);
    switch (value.type()) {
      case Type::none:
        text += "null";
        break;
      case Type::boolean:
        text += value.boolean() ? "true" : "false";
        break;
      case Type::integer:
        text += fmt::format("{}", value.integer());
        break;
      case Type::real:
        text += number(value.real());
        break;
      case Type::string:
        add_string(value.text());
        break;
      case Type::list:
      case Type::tuple:
        add_array(value.items());
        break;
      case Type::dict:
        add_object(value.dict());
        break;
      default:
        fail("Object of type {} is not JSON serializable", type_name(value));
    }
  }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return float_text(value);
  }

  static std::string key_text(const Value& key) {
    switch (key.type()) {
      case Type::string:
        return key.text();
      case Type::none:
        return "null";
      case Type::boolean:
        return key.boolean() ? "true" : "false";
      case Type::integer:
        return fmt::format("{}", key.integer());
      case Type::real:
        return number(key.real());
      default:
        fail("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
  }

  void add_unit(uint32_t unit) { text += fmt::format("\\u{:04x}", unit); }

  void add_string(const std::string& string) {
    need_room(text.size() + 2 * string.size());
    text += '"';
    for_each_character(string, [&](std::string_view bytes) {
      const char32_t c = code_point(bytes);
      constexpr std::string_view kShort = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
      const size_t at = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
      if (at != std::string_view::npos) {
        text += '\\';
        text += kLetters[at];
      } else if (c < 0x20 || (style_.ascii && c >= 0x7F && c < 0x10000)) {
        if (c == 0x7F) {
          text += bytes;
        } else {
          add_unit(static_cast<uint32_t>(c));
        }
      } else if (style_.ascii && c >= 0x10000) {
        add_unit(0xD800 + static_cast<uint32_t>((c - 0x10000) >> 10));
        add_unit(0xDC00 + static_cast<uint32_t>((c - 0x10000) & 0x3FF));
      } else {
        text += bytes;
      }
    });
    text += '"';
  }

  void new_line() {
    if (!style_.indent) return;
    need_room(text.size() + style_.indent->size() * static_cast<size_t>(depth_));
    text += '\n';
    for (int i = 0; i < depth_; ++i) text += *style_.indent;
  }

  void enter(char open) {
    text += open;
    if (++depth_ > kDeepest) fail("values inside more than {} others cannot be written", kDeepest);
  }

  void leave(char close) {
    --depth_;
    new_line();
    text += close;
  }

  void add_array(const Values& items) {
    if (items.empty()) {
      text += "[]";
      return;
    }
    enter('[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text += style_.item_separator;
      new_line();
      add(items[i]);
    }
    leave(']');
  }

  void add_object(const Dict& dict) {
    if (dict.entries.empty()) {
      text += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> members;
    for (const auto& entry : dict.entries) members.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(members.begin(), members.end(),
                       [](const auto* a, const auto* b) { return compare(a->first, b->first) == -1; });
    }
    enter('{');
    for (size_t i = 0; i < members.size(); ++i) {
      if (i > 0) text += style_.item_separator;
      new_line();
      add_string(key_text(members[i]->first));
      text += style_.key_separator;
      add(members[i]->second);
    }
    leave('}');
  }

  const JsonStyle& style_;
  int depth_ = 0;
};

}  // namespace

std::string json_dump(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.add(value);
  return std::move(writer.text);
}

}  // namespace moe::jinja
