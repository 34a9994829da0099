#include "tokenizer/text_sample.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace moe {
namespace {

uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0x9E3779B97F4A7C15u ^ text.size();
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
  };
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    mix(word);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, text.data() + at, text.size() - at);
  mix(rest);
  mix(0);
  return hash;
}

}  // namespace

void TextSample::add(std::string_view text) {
  const uint64_t hash = hash_of(text);
  // If the sample is full, only documents below its largest hash matter. One document stays, whatever its size.
  if (dropped_ && !heap_.empty() && hash > heap_.front().hash) return;
  heap_.push_back({hash, std::string(text)});
  std::push_heap(heap_.begin(), heap_.end());
  bytes_ += text.size();
  while (bytes_ > max_bytes_ && heap_.size() > 1) {
    std::pop_heap(heap_.begin(), heap_.end());
    bytes_ -= heap_.back().text.size();
    heap_.pop_back();
    dropped_ = true;
  }
}

std::vector<std::string> TextSample::take() {
  std::vector<std::string> texts;
  for (Entry& entry : heap_) texts.push_back(std::move(entry.text));
  heap_.clear();
  bytes_ = 0;
  return texts;
}

}  // namespace moe
