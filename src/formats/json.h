#pragma once
/// JSON documents with errors a reader can act on: each names the file (or the object inside it), what stands there and
/// what was expected.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace moe {

using Json = nlohmann::json;

/// Why a text is no JSON document: the byte, counted from 0, at which it fails, and a sentence without a full stop.
struct JsonMistake {
  size_t byte;
  std::string reason;
};

/// Called with each key of the document, as `parsed`, and at each object's begin and end.
using JsonWatch = std::function<void(Json::parse_event_t event, const Json& parsed)>;

/// Parses one document into `json`. The one place where this program parses JSON into values: the library's parser
/// takes a NUL byte for the end of the text and has no limit of depth, so both are refused before it is asked.
std::optional<JsonMistake> find_json_mistake(std::string_view text, Json& json, const JsonWatch& watch = {});

/// Parses one document. `name` is what errors call it, usually a path; they give line, column and byte of the mistake.
Json parse_json(std::string_view text, std::string_view name);

/// Parses a whole file.
Json read_json(const fs::path& path);

/// What reads a document part by part, members in the document's order: derive from it, answer false to stop.
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
/// An integer that an int32_t holds, such as a token's id.
int32_t json_int32(const Json& object, std::string_view key, std::string_view where);
/// Sixteen hexadecimal digits, as fingerprints are written.
uint64_t json_hexadecimal(const Json& object, std::string_view key, std::string_view where);
/// An array; never absent.
const Json& json_array(const Json& object, std::string_view key, std::string_view where);

}  // namespace moe
