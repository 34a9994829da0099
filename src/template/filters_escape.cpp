#include "base/error.h"
#include "template/arguments.h"
#include "template/filters.h"
#include "template/python_text.h"
#include "template/text.h"

namespace moe::jinja {
namespace {

Value escape(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "escape", {});
  return value.is_markup() ? value : Value(html_escaped(as_text(value)), true);
}

Value forceescape(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "forceescape", {});
  return Value(html_escaped(as_text(value)), true);
}

Value safe(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "safe", {});
  return value.is_markup() ? value : Value(as_text(value), true);
}

// Appends the character of the entity that begins `text` (after &). Returns 0 if there is no entity.
size_t append_entity(std::string_view text, std::string& out) {
  struct Entity {
    std::string_view name, text;
  };
  constexpr Entity kEntities[] = {{"amp;", "&"}, {"lt;", "<"},   {"gt;", ">"},   {"quot;", "\""},
                                  {"#39;", "'"}, {"#34;", "\""}, {"apos;", "'"}, {"nbsp;", "\u00a0"}};
  for (const Entity& entity : kEntities) {
    if (!text.starts_with(entity.name)) continue;
    out += entity.text;
    return entity.name.size();
  }
  return 0;
}

Value striptags(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "striptags", {});
  std::string text = as_text(value), kept;
  spend(text_steps(text.size()));
  size_t at = 0;
  for (size_t start = text.find('<'); start != std::string::npos; start = text.find('<', at)) {
    const bool comment = text.compare(start, 4, "<!--") == 0;
    const size_t end = comment ? text.find("-->", start + 4) : text.find('>', start);
    if (end == std::string::npos) break;
    kept.append(text, at, start - at);
    at = end + (comment ? 3 : 1);
  }
  kept.append(text, at);
  std::string joined;
  for (const std::string_view word : split(kept, std::nullopt, -1, false)) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  std::string out;
  for (size_t i = 0; i < joined.size(); ++i) {
    const size_t used = joined[i] == '&' ? append_entity(std::string_view(joined).substr(i + 1), out) : 0;
    if (used == 0) out += joined[i];
    i += used;
  }
  return Value(std::move(out));
}

std::string url_quoted(const Value& value, bool in_query) {
  const std::string text = as_text(value);
  need_room(3 * text.size());
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                       c == '.' || c == '-' || c == '~' || (c == '/' && !in_query);
    if (plain) {
      out += c;
    } else if (in_query && c == ' ') {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Value urlencode(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "urlencode", {});
  if (value.is_string() || !can_iterate(value)) return Value(url_quoted(value, false));
  std::string out;
  const auto add = [&](const Value& key, const Value& member) {
    if (!out.empty()) out += '&';
    out += fmt::format("{}={}", url_quoted(key, true), url_quoted(member, true));
  };
  if (value.is(Type::dict)) {
    for (const auto& [key, member] : value.dict().entries) add(key, member);
  } else {
    for (const Value& pair : items_of(value)) {
      const Values parts = items_of(pair);
      if (parts.size() != 2) fail("urlencode needs pairs");
      add(parts[0], parts[1]);
    }
  }
  return Value(std::move(out));
}

Value xmlattr(const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "xmlattr", {"autospace"});
  value.require_defined();
  if (!value.is(Type::dict)) fail("xmlattr needs a mapping, found '{}'", type_name(value));
  std::string out;
  for (const auto& [key, member] : value.dict().entries) {
    if (member.is(Type::none) || member.is_undefined()) continue;
    if (!key.is_string() || key.text().find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      fail("Invalid character in attribute name: {}", shown(key));
    }
    const bool space = !out.empty() || bound.truth(0, true);
    const std::string text = member.is_markup() ? member.text() : html_escaped(as_text(member));
    out += fmt::format("{}{}=\"{}\"", space ? " " : "", html_escaped(key.text()), text);
  }
  return Value(std::move(out));
}

}  // namespace

std::vector<Filter> escape_filters() {
  return {{"e", escape},       {"escape", escape},       {"forceescape", forceescape},
          {"safe", safe},      {"striptags", striptags}, {"urlencode", urlencode},
          {"xmlattr", xmlattr}};
}

}  // namespace moe::jinja
