#pragma once
/// The bytes of a text that its tokens are scored on. Bits per byte are divided by exactly these bytes.

#include <cstdint>
#include <span>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace moe {

/// The bytes of `text` that its ids (without BOS and EOS) stand for, as targets. If the tokenizer has a BOS, these are
/// all bytes, because BOS predicts the first token. Otherwise nothing predicts the first token, and its bytes do not
/// count. If the tokenizer normalizes the text, they are the bytes that the first token came from. A blank that the
/// tokenizer adds before a text is not a byte of the text. 0 for a text without tokens.
int64_t scored_bytes(std::string_view text, std::span<const int32_t> ids, const Tokenizer& tokenizer);

}  // namespace moe
