#pragma once
/// Token ids as text that a person and a JSON document can show.

#include <string>

#include "tokenizer/tokenizer.h"

namespace moe {

/// The bytes as valid UTF-8 of one line: a line feed, tab or carriage return as \n, \t, \r, a backslash doubled, other
/// control characters and bytes that are no UTF-8 as \xNN.
std::string readable(std::string_view bytes);

/// readable() of a token; "" for an id without one.
std::string readable_token(const Tokenizer& tokenizer, int32_t id);

}  // namespace moe
