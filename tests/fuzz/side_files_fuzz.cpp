// tokenizer_config.json, added_tokens.json, special_tokens_map.json and a text, cut at bytes of 0xFF.

#include "tests/fuzz/tokens.h"
#include "tests/fuzz/vocabularies.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string kTokenizer = fuzz::bytes_json().dump();
  const auto parts = fuzz::cut(fuzz::text_of(data, size), 4);
  const SideFiles side{.config = std::string(parts[0]),
                       .added_tokens = std::string(parts[1]),
                       .special_tokens_map = std::string(parts[2])};
  fuzz::accepted([&] { fuzz::use(Tokenizer(parse_tokenizer_files(kTokenizer, side, "tokenizer.json")), parts[3]); });
  return 0;
}
