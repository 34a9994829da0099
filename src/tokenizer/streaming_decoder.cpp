#include "tokenizer/streaming_decoder.h"

#include <utility>

#include "base/utf8.h"

namespace moe {

std::string StreamingDecoder::push(int32_t id) {
  const std::string_view bytes = tokenizer_.token_bytes(id);
  if (options_.keep_special || !tokenizer_.is_special(id)) held_ += bytes;
  const size_t ready = held_.size() - utf8_incomplete_suffix(held_);
  std::string out = valid_utf8(std::string_view(held_).substr(0, ready));
  held_.erase(0, ready);
  return out;
}

std::string StreamingDecoder::flush() { return valid_utf8(std::exchange(held_, {})); }

}  // namespace moe
