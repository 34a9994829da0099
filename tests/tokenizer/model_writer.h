#pragma once
/// Writes a SentencePiece tokenizer.model (protocol buffers) field by field.

#include <cstring>
#include <string>

namespace moe::test {

class ModelWriter {
 public:
  static std::string varint(uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
    return bytes + static_cast<char>(value);
  }
  static std::string number(int field, uint64_t value) {
    return varint(static_cast<uint64_t>(field) << 3) + varint(value);
  }
  static std::string bytes(int field, const std::string& value) {
    return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(value.size()) + value;
  }
  static std::string piece(const std::string& text, float score, int kind) {
    std::string real(4, '\0');
    std::memcpy(real.data(), &score, 4);
    return bytes(1, bytes(1, text) + varint(2 << 3 | 5) + real + number(3, static_cast<uint64_t>(kind)));
  }
};

}  // namespace moe::test
