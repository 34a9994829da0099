#pragma once
/// Decodes ids as they come, for text shown while it is generated.

#include <string>

#include "tokenizer/tokenizer.h"

namespace moe {

class StreamingDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamingDecoder(const Tokenizer& tokenizer, DecodeOptions options = {})
      : tokenizer_(tokenizer), options_(options) {}

  /// The text that can be shown after this id: valid UTF-8, with U+FFFD for bytes that can be no character. The start
  /// of a character whose rest may still come is held back. All pieces together are valid_utf8() of the ids' bytes.
  std::string push(int32_t id);

  /// U+FFFD where something is held back; the decoder is then as new.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  DecodeOptions options_;
  std::string held_;
};

}  // namespace moe
