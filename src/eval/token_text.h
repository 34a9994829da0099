#pragma once
/// Token ids as text for people and for JSON documents.

#include <string>

#include "tokenizer/tokenizer.h"

namespace moe {

/// The bytes as valid UTF-8 on one line. A line feed, tab or carriage return becomes \n, \t, \r; a backslash is
/// doubled; other control characters and bytes that are not UTF-8 become \xNN.
std::string readable(std::string_view bytes);

/// readable() of a token; "" for an id without a token.
std::string readable_token(const Tokenizer& tokenizer, int32_t id);

}  // namespace moe
