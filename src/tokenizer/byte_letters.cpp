#include "tokenizer/byte_letters.h"

#include "base/utf8.h"

namespace moe {
namespace {

constexpr char32_t kFirstShifted = 0x100;
constexpr char32_t kLetterEnd = 0x144;

bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::string, 256> letters;
  std::array<int, kLetterEnd> bytes;  // by code point; -1: not a letter

  Alphabet() {
    bytes.fill(-1);
    char32_t shifted = kFirstShifted;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t letter = stands_for_itself(byte) ? static_cast<char32_t>(byte) : shifted++;
      utf8_append(letters[static_cast<size_t>(byte)], letter);
      bytes[letter] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::array<std::string, 256>& byte_letters() { return alphabet().letters; }

std::string to_byte_letters(std::string_view bytes) {
  std::string letters;
  for (const char byte : bytes) letters += alphabet().letters[static_cast<uint8_t>(byte)];
  return letters;
}

std::optional<std::string> from_byte_letters(std::string_view letters) {
  std::string bytes;
  while (!letters.empty()) {
    if (utf8_length(letters) == 0) return std::nullopt;
    const char32_t letter = utf8_take(letters);
    const int byte = letter < kLetterEnd ? alphabet().bytes[letter] : -1;
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace moe
