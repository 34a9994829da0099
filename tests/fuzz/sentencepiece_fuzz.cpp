// SentencePiece's tokenizer.model. Its last 24 bytes are also a text. A bit of the first byte of the input, which is
// not the file's, gives the model the pieces of all bytes, without which it is refused.

#include <algorithm>

#include "tests/fuzz/tokens.h"
#include "tests/fuzz/vocabularies.h"
#include "tests/tokenizer/model_writer.h"

using namespace moe;

namespace {

std::string byte_pieces() {
  std::string pieces;
  for (int byte = 0; byte < 256; ++byte) {
    pieces += test::ModelWriter::piece(byte_token_name(static_cast<uint8_t>(byte)), 0, 6);
  }
  return pieces;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string kBytePieces = byte_pieces();
  if (size == 0) return -1;
  const std::string_view input = fuzz::text_of(data + 1, size - 1);
  const std::string model = std::string(input) + ((data[0] & 1) != 0 ? kBytePieces : "");
  const std::string_view text = input.substr(input.size() - std::min<size_t>(input.size(), 24));
  fuzz::accepted([&] { fuzz::use(Tokenizer(parse_sentencepiece_files(model, {}, "tokenizer.model")), text); });
  return 0;
}
