// A tiktoken file, then, after a byte of 0xFF, a text. The 256 bytes, without which a file is refused, come before it
// where the text is not empty.

#include "tests/fuzz/tokens.h"
#include "tests/fuzz/vocabularies.h"
#include "tokenizer/tiktoken.h"

using namespace moe;

namespace {

std::string all_bytes() {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string lines;
  for (size_t byte = 0; byte < 256; ++byte) {
    lines += {kDigits[byte >> 2], kDigits[(byte & 3) << 4], '=', '='};
    lines += fmt::format(" {}\n", byte);
  }
  return lines;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string kBytes = all_bytes();
  static const Json kWords = fuzz::bytes_json()["pre_tokenizer"];
  const auto parts = fuzz::cut(fuzz::text_of(data, size), 2);
  const std::string ranks = (parts[1].empty() ? "" : kBytes) + std::string(parts[0]);
  fuzz::accepted([&] {
    const std::string json = tiktoken_tokenizer_json(ranks, "x.tiktoken", kWords, {{"<|endoftext|>", 600}});
    fuzz::use(Tokenizer(parse_tokenizer_files(json, {}, "tokenizer.json")), parts[1]);
  });
  return 0;
}
