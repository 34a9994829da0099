// What a GGUF file says about a model: configuration, weights, tokenizer and chat template. The input is the file; its
// last 16 bytes are also a text for the tokenizer.

#include <algorithm>

#include "checkpoint/end_tokens.h"
#include "checkpoint/open_model.h"
#include "template/chat_template.h"
#include "tests/fuzz/tokens.h"

using namespace moe;

namespace {

void read_weights(const fs::path& path) {
  const auto weights = open_weights(path);
  const auto& table = weights->table();
  for (size_t i = 0; i < table.size(); ++i) weights->stored(i, 0);
  MOE_CHECK(!weights->tensors().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = fuzz::text_of(data, size);
  const fs::path path = fuzz::put("model.gguf", input);
  fuzz::accepted([&] { read_model_config(path); });
  fuzz::accepted([&] { read_weights(path); });
  fuzz::accepted([&] { read_end_tokens(path); });
  fuzz::accepted([&] { fuzz::use(Tokenizer::load(path), input.substr(size - std::min<size_t>(size, 16))); });
  fuzz::accepted([&] {
    for (const auto& source : jinja::own_chat_templates(path)) jinja::Template(source.source, source.origin);
  });
  return 0;
}
