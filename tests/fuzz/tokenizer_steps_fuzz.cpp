// The steps of a tokenizer.json: normalizer, pre-tokenizer, post-processor, decoder and added tokens, in an object that
// is laid over a good tokenizer; then, after a byte of 0xFF, a text. The text's length chooses the tokenizer.

#include "tests/fuzz/tokens.h"
#include "tests/fuzz/vocabularies.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Json kBytes = fuzz::bytes_json(), kCharacters = fuzz::characters_json(), kUnigram = fuzz::unigram_json();
  const auto parts = fuzz::cut(fuzz::text_of(data, size), 2);
  Json steps;
  if (find_json_mistake(parts[0], steps) || !steps.is_object()) return -1;
  const Json* const bases[] = {&kBytes, &kCharacters, &kUnigram};
  Json root = *bases[parts[1].size() % std::size(bases)];
  root.update(steps);
  fuzz::accepted([&] { fuzz::use(test::make_tokenizer(root), parts[1]); });
  return 0;
}
