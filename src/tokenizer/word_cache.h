#pragma once
/// Remembers the ids of words of up to 15 bytes with at most four ids; these are nearly all words of a text. It is a
/// table of fixed size, made for speed: a word, its length and the number of its ids take 16 bytes, and an entry takes
/// half a cache line. Use it on one thread at a time.

#include <emmintrin.h>

namespace moe {

class WordCache {
 public:
  static constexpr size_t kMaxWord = 15;
  static constexpr size_t kMaxIds = 4;

  /// A word and its use: a `part` of a longer word never gets the entry of a whole word.
  struct Key {
    uint64_t low;
    uint64_t high;  // its last byte is the length, with kPart for a part
  };

  class Entry {
   public:
    bool holds(const Key& key) const { return key_.low == key.low && ((key_.high ^ key.high) << kCountBits) == 0; }
    size_t count() const { return key_.high >> (64 - kCountBits); }
    /// kMaxIds ids; the first count() of them are valid.
    const int32_t* ids() const { return ids_.data(); }

   private:
    friend class WordCache;
    Key key_{};
    std::array<int32_t, kMaxIds> ids_{};
  };
  static_assert(sizeof(Entry) == 32);

  WordCache() : entries_(static_cast<Entry*>(std::calloc(size_t{1} << kBits, sizeof(Entry)))) {
    if (entries_ == nullptr) fail("out of memory for the cache of words");
  }

  /// `size` is 1 to kMaxWord. `limit` is the end of the text around the word; bytes before it may be read.
  static Key key_of(const char* word, size_t size, const char* limit, bool part) {
    Key key{};
    if (limit - word >= 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(word));
      const __m128i mask = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kMask.data() + 16 - size));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(&key), _mm_and_si128(bytes, mask));
    } else {
      std::memcpy(&key, word, size);
    }
    key.high |= uint64_t{size | (part ? kPart : 0)} << 56;
    return key;
  }

  /// The entry for a key. If the word is not known, it holds another key or none.
  const Entry& at(const Key& key) const { return entries_[slot(key)]; }

  void insert(const Key& key, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    Entry& entry = entries_[slot(key)];
    entry.key_ = {key.low, key.high | uint64_t{ids.size()} << (64 - kCountBits)};
    std::copy(ids.begin(), ids.end(), entry.ids_.begin());
  }

 private:
  static constexpr int kBits = 17;  // 4 MiB; a short text uses little of it
  static constexpr int kCountBits = 3;
  static constexpr size_t kPart = 0x10;

  static constexpr std::array<uint8_t, 32> kMask = [] {
    std::array<uint8_t, 32> mask{};
    for (size_t i = 0; i < 16; ++i) mask[i] = 0xFF;
    return mask;
  }();

  static size_t slot(const Key& key) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = Wide{key.low ^ 0x9E3779B97F4A7C15u} * (key.high ^ 0xD6E8FEB86659FD93u);
    return (static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64)) >> (64 - kBits);
  }

  struct Free {
    void operator()(Entry* entries) const { std::free(entries); }
  };
  std::unique_ptr<Entry[], Free> entries_;
};

}  // namespace moe
