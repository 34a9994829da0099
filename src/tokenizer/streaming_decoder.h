#pragma once
/// Decodes ids as they come, for text that is shown during generation. Use it on one thread at a time.

#include <string>

#include "tokenizer/tokenizer.h"

namespace moe {

class StreamingDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamingDecoder(const Tokenizer& tokenizer, DecodeOptions options = {})
      : tokenizer_(tokenizer), options_(options) {}

  /// The text that can be shown after this id: valid UTF-8, with U+FFFD for bytes that cannot become a character. The
  /// start of a character that may still be completed is held back. All pieces together are valid_utf8() of the ids'
  /// bytes.
  std::string push(int32_t id);

  /// U+FFFD if something is held back. The decoder is then like new.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  DecodeOptions options_;
  std::string held_;
};

}  // namespace moe
