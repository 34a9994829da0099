#include "formats/utf16.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace moe {
namespace {

using std::string_view_literals::operator""sv;

constexpr size_t kPieceBytes = size_t{64} << 10;
constexpr size_t kSureUnits = 4;  // characters of two bytes, without a byte order mark

// The stream, with its first bytes put back.
class Rewound : public ByteStream {
 public:
  Rewound(std::string head, std::unique_ptr<ByteStream> rest) : head_(std::move(head)), rest_(std::move(rest)) {}

  size_t read(char* data, size_t size) override {
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
      used += append_character(used);
    }
    in_.erase(0, used);
    done_ += used;
    if (ended && !in_.empty()) fail("{} is UTF-16 and cut short: it ends in the middle of a character", name_);
    return !ended || !out_.empty();
  }

  uint32_t unit_at(size_t at) const {
    const auto first = static_cast<unsigned char>(in_[at]), second = static_cast<unsigned char>(in_[at + 1]);
    return big_endian_ ? uint32_t{first} << 8 | second : uint32_t{second} << 8 | first;
  }

  size_t append_character(size_t at) {
    const uint32_t unit = unit_at(at);
    if (unit < 0xD800 || unit >= 0xE000) {
      utf8_append(out_, unit);
      return 2;
    }
    const uint32_t next = unit < 0xDC00 && in_.size() - at >= 4 ? unit_at(at + 2) : 0;
    if (next < 0xDC00 || next >= 0xE000) {
      fail("{} is damaged UTF-16: half a pair of surrogates near byte {}; convert it to UTF-8", name_, done_ + at);
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
};

// True if the bytes begin with `kSureUnits` ASCII characters whose zero bytes are the second (or the first) ones.
bool is_wide_ascii(std::string_view head, size_t zero) {
  if (head.size() < 2 * kSureUnits) return false;
  for (size_t i = 0; i < 2 * kSureUnits; ++i) {
    const auto byte = static_cast<unsigned char>(head[i]);
    if (i % 2 == zero ? byte != 0 : byte == 0 || byte >= 0x80) return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<ByteStream> as_utf8(std::unique_ptr<ByteStream> stream, std::string name) {
  std::string head(2 * kSureUnits, '\0');
  size_t size = 0;
  while (size < head.size()) {
    const size_t count = stream->read(head.data() + size, head.size() - size);
    if (count == 0) break;
    size += count;
  }
  head.resize(size);
  if (head.starts_with("\xFF\xFE\0\0"sv) || head.starts_with("\0\0\xFE\xFF"sv)) {
    fail("{} is UTF-32, which is not read; convert it, for instance with iconv -f UTF-32 -t UTF-8", name);
  }
  const auto rest = [&](size_t mark) { return std::make_unique<Rewound>(head.substr(mark), std::move(stream)); };
  if (head.starts_with("\xEF\xBB\xBF")) return rest(3);
  if (head.starts_with("\xFF\xFE")) return std::make_unique<Utf16Stream>(rest(2), false, std::move(name));
  if (head.starts_with("\xFE\xFF")) return std::make_unique<Utf16Stream>(rest(2), true, std::move(name));
  if (is_wide_ascii(head, 1)) return std::make_unique<Utf16Stream>(rest(0), false, std::move(name));
  if (is_wide_ascii(head, 0)) return std::make_unique<Utf16Stream>(rest(0), true, std::move(name));
  return rest(0);
}

}  // namespace moe
