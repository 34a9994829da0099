#pragma once
/// JSON documents with errors a reader can act on: each names the file (or the object inside it), what stands there and
/// what was expected.

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace moe {

using Json = nlohmann::json;

/// Parses one document. `name` is what errors call it, usually a path; they give line, column and byte of the mistake.
Json parse_json(std::string_view text, std::string_view name);

/// Parses a whole file.
Json read_json(const fs::path& path);

/// What a value is, in words: "a string", "an array" ...
std::string_view json_kind(const Json& value);

/// Member `key` of `object`; `where` is how errors call the object ("config.json", "config.json: rope_scaling").
const Json& json_member(const Json& object, std::string_view key, std::string_view where);

/// Member `key`, or null where it is absent or null; an error where `object` is no object.
const Json* json_find(const Json& object, std::string_view key, std::string_view where);

/// Typed members. The first form demands the member; the second gives `fallback` where it is absent or null.
std::string json_string(const Json& object, std::string_view key, std::string_view where);
std::string json_string(const Json& object, std::string_view key, std::string_view where, std::string_view fallback);
int64_t json_int(const Json& object, std::string_view key, std::string_view where);
int64_t json_int(const Json& object, std::string_view key, std::string_view where, int64_t fallback);
double json_number(const Json& object, std::string_view key, std::string_view where);
double json_number(const Json& object, std::string_view key, std::string_view where, double fallback);
bool json_bool(const Json& object, std::string_view key, std::string_view where);
bool json_bool(const Json& object, std::string_view key, std::string_view where, bool fallback);
/// An array; never absent.
const Json& json_array(const Json& object, std::string_view key, std::string_view where);

}  // namespace moe
