#include "formats/json.h"

#include <algorithm>

#include "base/error.h"

namespace moe {
namespace {

// The library's message is "[json.exception.parse_error.101] parse error at line 1, column 2: reason".
std::string_view reason_of(std::string_view what) {
  const size_t column = what.find("column ");
  const size_t colon = column == std::string_view::npos ? what.find("] ") : what.find(": ", column);
  return colon == std::string_view::npos ? what : what.substr(colon + 2);
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

Json parse_json(std::string_view text, std::string_view name) {
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::parse_error& error) {
    const size_t byte = std::min(error.byte == 0 ? 0 : error.byte - 1, text.size());
    const std::string_view before = text.substr(0, byte);
    const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
    const size_t newline = before.rfind('\n');
    const size_t column = byte - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
    fail("{}: not valid JSON at line {}, column {} (byte {}): {}", name, line, column, byte, reason_of(error.what()));
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", name, reason_of(error.what()));
  }
}

Json read_json(const fs::path& path) {
  const MappedFile file(path);
  return parse_json(file.text(), path.string());
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
