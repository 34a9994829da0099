#include "formats/json.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace moe {
namespace {

// Deeper values are in no useful document, but would use up the stack of the code that visits them.
constexpr int kDeepest = 512;

// The library's message is "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while
// parsing value - reason; last read: 'text'"; the text it had read may be a whole document.
std::string reason_of(std::string_view what) {
  const size_t column = what.find("column ");
  const size_t colon = column == std::string_view::npos ? what.find("] ") : what.find(": ", column);
  if (colon != std::string_view::npos) what.remove_prefix(colon + 2);
  if (const size_t dash = what.find(" - "); dash != std::string_view::npos) what.remove_prefix(dash + 3);
  return std::string(what.substr(0, what.find("; last read")));
}

// What the library would misread: a NUL byte, which a JSON document cannot have, and unlimited depth.
std::optional<JsonMistake> unparsable(std::string_view text) {
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return JsonMistake{nul, "a NUL byte, which JSON does not allow; the file may be damaged"};
  }
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest) return JsonMistake{i, fmt::format("values inside more than {} others", kDeepest)};
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return std::nullopt;
}

[[noreturn]] void fail_member(std::string_view key, std::string_view where, const Json& found, const char* expected) {
  fail("{}: \"{}\" is {}, expected {}", where, key, json_kind(found), expected);
}

std::string as_string(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_string()) fail_member(key, where, value, "a string");
  return value.get<std::string>();
}

int64_t as_int(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_number_integer()) fail_member(key, where, value, "an integer");
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    fail("{}: \"{}\" is {}, which is more than 64 bits hold", where, key, value.get<uint64_t>());
  }
  return value.get<int64_t>();
}

double as_number(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_number()) fail_member(key, where, value, "a number");
  return value.get<double>();
}

bool as_bool(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_boolean()) fail_member(key, where, value, "true or false");
  return value.get<bool>();
}

}  // namespace

std::optional<JsonMistake> find_json_mistake(std::string_view text, Json& json, const JsonWatch& watch) {
  if (auto mistake = unparsable(text)) return mistake;
  try {
    if (watch) {
      const auto callback = [&](int, Json::parse_event_t event, Json& parsed) {
        watch(event, parsed);
        return true;
      };
      json = Json::parse(text.begin(), text.end(), callback);
    } else {
      json = Json::parse(text.begin(), text.end());
    }
  } catch (const Json::parse_error& error) {
    return JsonMistake{std::min(error.byte == 0 ? 0 : error.byte - 1, text.size()), reason_of(error.what())};
  } catch (const Json::exception& error) {
    return JsonMistake{0, reason_of(error.what())};
  }
  return std::nullopt;
}

namespace {

[[noreturn]] void fail_mistake(const JsonMistake& mistake, std::string_view text, std::string_view name) {
  const std::string_view before = text.substr(0, mistake.byte);
  const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t newline = before.rfind('\n');
  const size_t column = mistake.byte - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
  fail("{}: not valid JSON at line {}, column {} (byte {}): {}", name, line, column, mistake.byte, mistake.reason);
}

}  // namespace

Json parse_json(std::string_view text, std::string_view name) {
  Json json;
  const auto mistake = find_json_mistake(text, json);
  if (mistake) fail_mistake(*mistake, text, name);
  return json;
}

bool JsonParts::parse_error(size_t position, const std::string&, const Json::exception& error) {
  mistake = JsonMistake{position == 0 ? 0 : position - 1, reason_of(error.what())};
  return false;
}

void parse_json_parts(std::string_view text, std::string_view name, JsonParts& parts) {
  parts.mistake = unparsable(text);
  if (!parts.mistake) Json::sax_parse(text.begin(), text.end(), &parts);
  if (!parts.mistake) return;
  parts.mistake->byte = std::min(parts.mistake->byte, text.size());
  fail_mistake(*parts.mistake, text, name);
}

Json read_json(const fs::path& path) {
  const MappedFile file(path);
  return parse_json(file.text(), path.string());
}

std::string json_shown(const Json& value) {
  constexpr size_t kShown = 120;
  std::string text = json_text(value);
  if (text.size() <= kShown) return text;
  size_t end = kShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string_view json_kind(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "an integer";
    case Json::value_t::number_float:
      return "a fractional number";
    default:
      return "no JSON value";
  }
}

const Json* json_find(const Json& object, std::string_view key, std::string_view where) {
  if (!object.is_object()) fail("{}: found {}, expected an object", where, json_kind(object));
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const Json& json_member(const Json& object, std::string_view key, std::string_view where) {
  const Json* found = json_find(object, key, where);
  if (found == nullptr) fail("{}: \"{}\" is missing", where, key);
  return *found;
}

std::string json_string(const Json& object, std::string_view key, std::string_view where) {
  return as_string(json_member(object, key, where), key, where);
}

std::string json_string(const Json& object, std::string_view key, std::string_view where, std::string_view fallback) {
  const Json* found = json_find(object, key, where);
  return found == nullptr ? std::string(fallback) : as_string(*found, key, where);
}

int64_t json_int(const Json& object, std::string_view key, std::string_view where) {
  return as_int(json_member(object, key, where), key, where);
}

int64_t json_int(const Json& object, std::string_view key, std::string_view where, int64_t fallback) {
  const Json* found = json_find(object, key, where);
  return found == nullptr ? fallback : as_int(*found, key, where);
}

int32_t json_int32(const Json& object, std::string_view key, std::string_view where) {
  const int64_t value = json_int(object, key, where);
  if (value < INT32_MIN || value > INT32_MAX) {
    fail("{}: \"{}\" is {}, expected an integer of at most 32 bits", where, key, value);
  }
  return static_cast<int32_t>(value);
}

uint64_t json_hexadecimal(const Json& object, std::string_view key, std::string_view where) {
  const std::string digits = json_string(object, key, where);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.size() != 16) {
    fail("{}: \"{}\" is \"{}\", expected 16 hexadecimal digits; the file is damaged", where, key, digits);
  }
  return value;
}

double json_number(const Json& object, std::string_view key, std::string_view where) {
  return as_number(json_member(object, key, where), key, where);
}

double json_number(const Json& object, std::string_view key, std::string_view where, double fallback) {
  const Json* found = json_find(object, key, where);
  return found == nullptr ? fallback : as_number(*found, key, where);
}

bool json_bool(const Json& object, std::string_view key, std::string_view where) {
  return as_bool(json_member(object, key, where), key, where);
}

bool json_bool(const Json& object, std::string_view key, std::string_view where, bool fallback) {
  const Json* found = json_find(object, key, where);
  return found == nullptr ? fallback : as_bool(*found, key, where);
}

const Json& json_array(const Json& object, std::string_view key, std::string_view where) {
  const Json& found = json_member(object, key, where);
  if (!found.is_array()) fail_member(key, where, found, "an array");
  return found;
}

}  // namespace moe
