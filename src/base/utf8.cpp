#include "base/utf8.h"

#include <algorithm>
#include <cstring>

namespace moe {
namespace {

struct Lead {
  size_t length = 0;   // length of the character that this byte starts; 0: it starts none
  uint8_t low = 0x80;  // range of the second byte
  uint8_t high = 0xBF;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {.length = 1};
  if (byte < 0xC2 || byte > 0xF4) return {};
  if (byte < 0xE0) return {.length = 2};
  if (byte == 0xE0) return {.length = 3, .low = 0xA0};
  if (byte == 0xED) return {.length = 3, .high = 0x9F};
  if (byte < 0xF0) return {.length = 3};
  if (byte == 0xF0) return {.length = 4, .low = 0x90};
  if (byte == 0xF4) return {.length = 4, .high = 0x8F};
  return {.length = 4};
}

/// The number of bytes of `text` that agree with the character that its first byte starts.
size_t matching_bytes(std::string_view text, const Lead& lead) {
  const size_t size = std::min(text.size(), lead.length);
  for (size_t i = 1; i < size; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte < (i == 1 ? lead.low : 0x80) || byte > (i == 1 ? lead.high : 0xBF)) return i;
  }
  return size;
}

}  // namespace

size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const Lead lead = lead_of(static_cast<uint8_t>(text[0]));
  return matching_bytes(text, lead) == lead.length ? lead.length : 0;
}

size_t utf8_valid_prefix(std::string_view text) {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word;
    if (at + sizeof word <= text.size()) {
      std::memcpy(&word, bytes + at, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        at += sizeof word;
        continue;
      }
      // Characters of three bytes come in long runs. After E0 or ED the range of the second byte is narrower.
      if ((word & 0xC0C0F0u) == 0x8080E0u && (word & 0xFF) != 0xE0 && (word & 0xFF) != 0xED) {
        at += 3;
        continue;
      }
    }
    if (bytes[at] < 0x80) {
      ++at;
      continue;
    }
    const size_t length = utf8_length(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

size_t utf8_incomplete_suffix(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    const auto byte = static_cast<uint8_t>(tail[0]);
    if (byte >= 0x80 && byte < 0xC0) continue;
    const Lead lead = lead_of(byte);
    return lead.length > back && matching_bytes(tail, lead) == back ? back : 0;
  }
  return 0;
}

char32_t utf8_take(std::string_view& text) {
  const size_t length = utf8_length(text);
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(text[i])); };
  static constexpr char32_t kMask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  char32_t character = byte(0) & kMask[length];
  for (size_t i = 1; i < length; ++i) character = character << 6 | (byte(i) & 0x3F);
  text.remove_prefix(length == 0 ? 1 : length);
  return character;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  for (;;) {
    const size_t valid = utf8_valid_prefix(text);
    out += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) return out;
    out += "\uFFFD";
    text.remove_prefix(std::max<size_t>(1, matching_bytes(text, lead_of(static_cast<uint8_t>(text[0])))));
  }
}

void utf8_append(std::string& text, char32_t character) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(static_cast<uint8_t>(byte)); };
  if (character < 0x80) {
    put(character);
  } else if (character < 0x800) {
    put(0xC0 | character >> 6);
    put(0x80 | (character & 0x3F));
  } else if (character < 0x10000) {
    put(0xE0 | character >> 12);
    put(0x80 | (character >> 6 & 0x3F));
    put(0x80 | (character & 0x3F));
  } else {
    put(0xF0 | character >> 18);
    put(0x80 | (character >> 12 & 0x3F));
    put(0x80 | (character >> 6 & 0x3F));
    put(0x80 | (character & 0x3F));
  }
}

}  // namespace moe
