#pragma once
/// Integers of JSON documents.

#include <cstdint>

#include "formats/json.h"

namespace moe {

/// True if get<int64_t>() gives the integer that is written. The library would make another one of 2^63 and above, also
/// where it compares with an int64_t.
inline bool is_int64(const Json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
  return value.is_number_integer();
}

}  // namespace moe
