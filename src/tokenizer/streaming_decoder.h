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

  /// The bytes that can be shown after this id. The start of a character whose rest may still come is held back; bytes
  /// that can be no character come out as they are.
  std::string push(int32_t id);

  /// What is held back, complete or not; the decoder is then as new.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  DecodeOptions options_;
  std::string held_;
};

}  // namespace moe
