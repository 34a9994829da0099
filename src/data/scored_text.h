#pragma once
/// Which bytes of a text its tokens are scored on: bits per byte divide by exactly those.

#include <cstdint>
#include <span>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace moe {

/// Bytes of `text` that its ids (without BOS and EOS) stand for, as targets. All of them, where the tokenizer has a
/// BOS, which predicts the first token; else nothing predicts that one, and its bytes do not count. A blank that the
/// tokenizer adds before a text is no byte of it. 0 for a text without tokens.
int64_t scored_bytes(std::string_view text, std::span<const int32_t> ids, const Tokenizer& tokenizer);

}  // namespace moe
