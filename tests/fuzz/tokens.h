#pragma once
/// Uses a tokenizer that was made of an input.

#include <string_view>

#include "base/utf8.h"
#include "tests/fuzz/support.h"
#include "tokenizer/streaming_decoder.h"
#include "tokenizer/tokenizer.h"

namespace moe::fuzz {

/// Encodes `text` in every way, twice (the second time from the caches), and decodes the ids.
inline void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool add : {false, true}) {
    for (const bool parse : {false, true}) {
      accepted([&] {
        const EncodeOptions options{.add_special = add, .parse_special = parse};
        const std::vector<int32_t> ids = tokenizer.encode(text, options);
        MOE_CHECK(tokenizer.encode(text, options) == ids);
        std::string whole;
        for (const int32_t id : ids) {
          MOE_CHECK(tokenizer.has_token(id));
          whole += tokenizer.token_bytes(id);
        }
        tokenizer.decode(ids);
        const std::string kept = tokenizer.decode(ids, {.keep_special = true});
        MOE_CHECK(kept.size() <= whole.size());
        StreamingDecoder decoder(tokenizer, {.keep_special = true});
        std::string streamed;
        for (const int32_t id : ids) streamed += decoder.push(id);
        MOE_CHECK(streamed + decoder.flush() == valid_utf8(whole));
      });
    }
  }
  for (int32_t id = -1; id <= tokenizer.id_count(); id += 1 + tokenizer.id_count() / 64) tokenizer.is_special(id);
}

}  // namespace moe::fuzz
