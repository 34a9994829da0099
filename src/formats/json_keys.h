#pragma once
/// JSON documents in which no object has a key twice. The parser allows such an object and keeps the last value; where
/// keys list things, that would hide one of them.

#include <string>

#include "formats/json.h"

namespace moe {

/// Throws an Error at a key that its object has already. Errors call the document `where`.
JsonWatch refuse_repeated_keys(std::string where);

/// read_json() that refuses repeated keys.
Json read_json_without_repeated_keys(const fs::path& path);

}  // namespace moe
