#include "formats/utf16.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace moe {
namespace {

using std::string_view_literals::operator""sv;

constexpr size_t kPieceBytes = size_t{64} << 10;
constexpr size_t kHeadBytes = size_t{4} << 10;  // by which the encoding is judged
constexpr size_t kSureUnits = 4;

// The stream, with its first bytes put back. Without `damage` the stream follows, otherwise an error.
class Rewound : public ByteStream {
 public:
  Rewound(std::string head, std::unique_ptr<ByteStream> rest, std::string damage)
      : head_(std::move(head)), rest_(std::move(rest)), damage_(std::move(damage)) {}

  size_t read(char* data, size_t size) override {
    if (at_ == head_.size() && !damage_.empty()) fail("{}", damage_);
    if (at_ == head_.size()) return rest_->read(data, size);
    const size_t count = std::min(size, head_.size() - at_);
    std::memcpy(data, head_.data() + at_, count);
    at_ += count;
    return count;
  }
  uint64_t consumed() const override { return rest_->consumed(); }

 private:
  std::string head_;
  size_t at_ = 0;
  std::unique_ptr<ByteStream> rest_;
  std::string damage_;
};

class Utf16Stream : public ByteStream {
 public:
  Utf16Stream(std::unique_ptr<ByteStream> stream, bool big_endian, std::string name)
      : stream_(std::move(stream)), big_endian_(big_endian), name_(std::move(name)) {}

  size_t read(char* data, size_t size) override {
    while (at_ == out_.size()) {
      if (!decode_more()) return 0;
    }
    const size_t count = std::min(size, out_.size() - at_);
    std::memcpy(data, out_.data() + at_, count);
    at_ += count;
    return count;
  }
  uint64_t consumed() const override { return stream_->consumed(); }

 private:
  bool decode_more() {
    if (!damage_.empty()) fail("{}", damage_);
    out_.clear();
    at_ = 0;
    const size_t kept = in_.size();
    in_.resize(kept + kPieceBytes);
    const size_t count = stream_->read(in_.data() + kept, kPieceBytes);
    in_.resize(kept + count);
    const bool ended = count == 0;
    size_t used = 0;
    while (in_.size() - used >= 2) {
      const uint32_t unit = unit_at(used);
      if (unit >= 0xD800 && unit < 0xDC00 && in_.size() - used < 4 && !ended) break;
      const size_t size = append_character(used);
      if (size == 0) break;
      used += size;
    }
    in_.erase(0, used);
    done_ += used;
    if (damage_.empty() && ended && !in_.empty())
      fail("{} is UTF-16 and cut short: it ends in the middle of a character", name_);
    return !ended || !out_.empty() || !damage_.empty();
  }

  uint32_t unit_at(size_t at) const {
    const auto first = static_cast<unsigned char>(in_[at]), second = static_cast<unsigned char>(in_[at + 1]);
    return big_endian_ ? uint32_t{first} << 8 | second : uint32_t{second} << 8 | first;
  }

  // Returns the bytes of the character; 0 if there is none.
  size_t append_character(size_t at) {
    const uint32_t unit = unit_at(at);
    if (unit < 0xD800 || unit >= 0xE000) {
      utf8_append(out_, unit);
      return 2;
    }
    const uint32_t next = unit < 0xDC00 && in_.size() - at >= 4 ? unit_at(at + 2) : 0;
    if (next < 0xDC00 || next >= 0xE000) {
      // The text before it is read first.
      damage_ = fmt::format("{} is damaged UTF-16: half a pair of surrogates near byte {}; convert it to UTF-8", name_,
                            done_ + at);
      return 0;
    }
    utf8_append(out_, 0x10000 + ((unit - 0xD800) << 10) + (next - 0xDC00));
    return 4;
  }

  std::unique_ptr<ByteStream> stream_;
  bool big_endian_;
  std::string name_;
  std::string in_;   // bytes that are not decoded yet
  std::string out_;  // text that is not read yet, from at_ on
  size_t at_ = 0;
  uint64_t done_ = 0;  // bytes decoded
  std::string damage_;
};

/// What is certainly not text, however the file is named.
void refuse_other_kinds(std::string_view head, const std::string& name) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 10> kKinds = {
      {{"PK\3\4", "a ZIP archive (or an office document)"},
       {"\x1f\x8b\x08", "gzip data, packed twice or without the ending .gz"},
       {"\x28\xb5\x2f\xfd", "Zstandard data, packed twice"},
       {"BZh91AY&SY", "bzip2 data"},
       {"\xfd"
        "7zXZ",
        "xz data"},
       {"7z\xbc\xaf\x27\x1c", "a 7z archive"},
       {"Rar!\x1a\x07", "a RAR archive"},
       {"%PDF-", "a PDF document"},
       {"PAR1", "Parquet"},
       {"\x89PNG\r\n", "a picture"}}};
  for (const auto& [magic, kind] : kKinds) {
    if (head.starts_with(magic))
      fail("{} is no text: its content begins like {}; unpack or convert it first", name, kind);
  }
}

enum class Encoding { utf8, utf16_little, utf16_big, utf32_little, utf32_big };

bool is_surrogate(uint32_t unit) { return unit >= 0xD800 && unit < 0xE000; }

uint32_t unit_of(std::string_view bytes, size_t at, size_t width, bool big_endian) {
  uint32_t unit = 0;
  for (size_t i = 0; i < width; ++i) {
    unit |= uint32_t{static_cast<unsigned char>(bytes[at + i])} << 8 * (big_endian ? width - 1 - i : i);
  }
  return unit;
}

// True if the bytes are at least two characters of four bytes each, none of them U+0000. A character that the end cuts
// is left out.
bool is_utf32(std::string_view head, bool big_endian) {
  for (size_t at = 0; at + 4 <= head.size(); at += 4) {
    const uint32_t unit = unit_of(head, at, 4, big_endian);
    if (unit == 0 || unit >= 0x110000 || is_surrogate(unit)) return false;
  }
  return head.size() >= 8;
}

// True if the bytes begin with `kSureUnits` ASCII characters of two bytes each.
bool is_wide_ascii(std::string_view head, bool big_endian) {
  if (head.size() < 2 * kSureUnits) return false;
  for (size_t at = 0; at < 2 * kSureUnits; at += 2) {
    const uint32_t unit = unit_of(head, at, 2, big_endian);
    if (unit == 0 || unit >= 0x80) return false;
  }
  return true;
}

bool is_control(uint32_t character) {
  return character < 0x20 && character != '\t' && character != '\n' && character != '\f' && character != '\r';
}

// How many Latin letters, digits and blanks the bytes are as UTF-16. 0 if they are not text in UTF-16, or make sense as
// UTF-8: then they are valid, and less than about half of them are control characters.
size_t utf16_letters(std::string_view head, bool big_endian) {
  bool in_pair = false, blank = false;
  size_t letters = 0;
  for (size_t at = 0; at + 2 <= head.size(); at += 2) {
    const uint32_t unit = unit_of(head, at, 2, big_endian);
    const bool second = unit >= 0xDC00 && unit < 0xE000;
    if (is_control(unit) || second != in_pair) return 0;
    in_pair = is_surrogate(unit) && !second;
    if (unit < 0x100) ++letters;
    blank = blank || unit <= 0x20;
  }
  const auto controls = std::count_if(head.begin(), head.end(), [](unsigned char byte) { return is_control(byte); });
  const bool valid = utf8_valid_prefix(head) + utf8_incomplete_suffix(head) == head.size();
  const bool senseless = valid ? 8 * static_cast<size_t>(controls) >= 3 * head.size() : blank;
  return head.size() >= 4 && senseless ? letters : 0;
}

// Without a byte order mark.
Encoding guess(std::string_view head) {
  if (head.find('\0') == std::string_view::npos) return Encoding::utf8;
  if (is_utf32(head, false)) return Encoding::utf32_little;
  if (is_utf32(head, true)) return Encoding::utf32_big;
  if (is_wide_ascii(head, false)) return Encoding::utf16_little;
  if (is_wide_ascii(head, true)) return Encoding::utf16_big;
  const size_t little = utf16_letters(head, false), big = utf16_letters(head, true);
  if (little == 0 && big == 0) return Encoding::utf8;
  return little >= big ? Encoding::utf16_little : Encoding::utf16_big;
}

Encoding encoding_of(std::string_view head, size_t& mark) {
  mark = 0;
  if (head.starts_with("\xFF\xFE\0\0"sv)) return Encoding::utf32_little;
  if (head.starts_with("\0\0\xFE\xFF"sv)) return Encoding::utf32_big;
  if (head.starts_with("\xEF\xBB\xBF")) {
    mark = 3;
    return Encoding::utf8;
  }
  if (head.starts_with("\xFF\xFE") || head.starts_with("\xFE\xFF")) {
    mark = 2;
    return head[0] == '\xFF' ? Encoding::utf16_little : Encoding::utf16_big;
  }
  return guess(head);
}

}  // namespace

std::unique_ptr<ByteStream> as_utf8(std::unique_ptr<ByteStream> stream, std::string name) {
  std::string head(kHeadBytes, '\0');
  size_t size = 0;
  std::string damage;
  try {
    while (size < head.size()) {
      const size_t count = stream->read(head.data() + size, head.size() - size);
      if (count == 0) break;
      size += count;
    }
  } catch (const Error& error) {  // told after the bytes before the damage
    damage = error.what();
  }
  head.resize(size);
  refuse_other_kinds(head, name);
  size_t mark = 0;
  const Encoding encoding = encoding_of(head, mark);
  if (encoding == Encoding::utf32_little || encoding == Encoding::utf32_big) {
    fail("{} is UTF-32, which is not read; convert it, for instance with iconv -f UTF-32{} -t UTF-8", name,
         encoding == Encoding::utf32_big ? "BE" : "LE");
  }
  auto rest = std::make_unique<Rewound>(head.substr(mark), std::move(stream), std::move(damage));
  if (encoding == Encoding::utf8) return rest;
  return std::make_unique<Utf16Stream>(std::move(rest), encoding == Encoding::utf16_big, std::move(name));
}

}  // namespace moe
