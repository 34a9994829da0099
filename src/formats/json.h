#pragma once
/// JSON documents. Every error names the file (or the object inside it), what was found and what was expected.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace moe {

using Json = nlohmann::json;

/// Why a text is not a JSON document: the byte, counted from 0, where it fails, and a sentence without a full stop.
struct JsonMistake {
  size_t byte;
  std::string reason;
};

/// Called with each key of the document, as `parsed`, and at the begin and end of each object.
using JsonWatch = std::function<void(Json::parse_event_t event, const Json& parsed)>;

/// Parses one document into `json`. Only this function parses JSON into values. The library's parser would take a NUL
/// byte for the end of the text, and has no limit of depth; so this function refuses both first.
std::optional<JsonMistake> find_json_mistake(std::string_view text, Json& json, const JsonWatch& watch = {});

/// Parses one document. Errors call it `name`, usually a path. They give line, column and byte of the mistake.
Json parse_json(std::string_view text, std::string_view name);

/// Parses a whole file.
Json read_json(const fs::path& path);

/// What reads a document part by part, members in the document's order: derive from it, answer false to stop.
/// For one thread at a time.
class JsonParts : public nlohmann::json_sax<Json> {
 public:
  bool parse_error(size_t position, const std::string& last, const Json::exception& error) final;

  std::optional<JsonMistake> mistake;
};

/// Hands the parts of one document to `parts`; the errors of parse_json.
void parse_json_parts(std::string_view text, std::string_view name, JsonParts& parts);

/// The document as text, on one line for a negative `indent`. Strings that are not UTF-8 get U+FFFD, where dump()
/// throws.
template <class Document>
std::string json_text(const Document& json, int indent = -1) {
  return json.dump(indent, ' ', false, Document::error_handler_t::replace);
}

/// A value in an error: its text, or the beginning of a long one.
std::string json_shown(const Json& value);

/// The kind of a value in words: "a string", "an array" ...
std::string_view json_kind(const Json& value);

/// Member `key` of `object`. Errors call the object `where` ("config.json", "config.json: rope_scaling").
const Json& json_member(const Json& object, std::string_view key, std::string_view where);

/// Member `key`, or null if it is absent or null. It is an error if `object` is not an object.
const Json* json_find(const Json& object, std::string_view key, std::string_view where);

/// Typed members. The first form requires the member; the second returns `fallback` if it is absent or null.
std::string json_string(const Json& object, std::string_view key, std::string_view where);
std::string json_string(const Json& object, std::string_view key, std::string_view where, std::string_view fallback);
int64_t json_int(const Json& object, std::string_view key, std::string_view where);
int64_t json_int(const Json& object, std::string_view key, std::string_view where, int64_t fallback);
double json_number(const Json& object, std::string_view key, std::string_view where);
double json_number(const Json& object, std::string_view key, std::string_view where, double fallback);
bool json_bool(const Json& object, std::string_view key, std::string_view where);
bool json_bool(const Json& object, std::string_view key, std::string_view where, bool fallback);
/// An integer that fits an int32_t, such as a token's id.
int32_t json_int32(const Json& object, std::string_view key, std::string_view where);
/// Sixteen hexadecimal digits, the form of fingerprints.
uint64_t json_hexadecimal(const Json& object, std::string_view key, std::string_view where);
/// An array, which must be present.
const Json& json_array(const Json& object, std::string_view key, std::string_view where);

}  // namespace moe
