// A whole tokenizer.json, then, after a byte of 0xFF, a text.

#include "tests/fuzz/tokens.h"
#include "tokenizer/tokenizer_files.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = fuzz::cut(fuzz::text_of(data, size), 2);
  fuzz::accepted(
      [&] { fuzz::use(Tokenizer(parse_tokenizer_files(std::string(parts[0]), {}, "tokenizer.json")), parts[1]); });
  return 0;
}
