#include "tokenizer/word_counts.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace moe {
namespace {

constexpr size_t kFirstPlaces = size_t{1} << 12;
constexpr size_t kBlockBytes = size_t{1} << 20;

uint32_t hash_of(std::string_view word) {
  uint64_t hash = 0x9E3779B97F4A7C15u ^ word.size();
  const auto mix = [&](uint64_t bytes) {
    hash = (hash ^ bytes) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
  };
  size_t at = 0;
  for (; at + 8 <= word.size(); at += 8) {
    uint64_t bytes;
    std::memcpy(&bytes, word.data() + at, 8);
    mix(bytes);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, word.data() + at, word.size() - at);
  mix(rest);
  return static_cast<uint32_t>(hash);
}

}  // namespace

WordCounts::WordCounts() : table_(kFirstPlaces) {}

WordCounts::Word& WordCounts::place(std::string_view word, uint32_t hash) {
  const size_t mask = table_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    Word& entry = table_[at];
    if (entry.data == nullptr || (entry.hash == hash && entry.text() == word)) return entry;
  }
}

void WordCounts::add(std::string_view word, int64_t count) {
  const uint32_t hash = hash_of(word);
  Word* entry = &place(word, hash);
  if (entry->data == nullptr) {
    if (used_ * 2 >= table_.size()) {
      grow();
      entry = &place(word, hash);
    }
    *entry = {store(word), static_cast<uint32_t>(word.size()), hash, 0};
    ++used_;
  }
  entry->count += count;
}

void WordCounts::take(WordCounts& other) {
  if (used_ == 0) std::swap(*this, other);
  other.for_each([&](const Word& word) { add(word.text(), word.count); });
  other = WordCounts();
}

const char* WordCounts::store(std::string_view word) {
  if (word.size() > block_left_) {
    block_left_ = std::max(kBlockBytes, word.size());
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(block_left_));
    block_end_ = blocks_.back().get() + block_left_;
  }
  char* place = block_end_ - block_left_;
  std::memcpy(place, word.data(), word.size());
  block_left_ -= word.size();
  return place;
}

void WordCounts::grow() {
  std::vector<Word> old(table_.size() * 2);
  std::swap(old, table_);
  for (const Word& word : old) {
    if (word.data != nullptr) place(word.text(), word.hash) = word;
  }
}

}  // namespace moe
