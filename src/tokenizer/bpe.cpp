#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/error.h"
#include "tokenizer/byte_letters.h"

namespace moe {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;
constexpr uint32_t kNone = UINT32_MAX;
// Up to this many bytes searching all ranks at each merge is faster than a heap.
constexpr size_t kShortWord = 96;

uint64_t mix(int32_t left, int32_t right) {
  const uint64_t key = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  return (key ^ key >> 29) * 0x9E3779B97F4A7C15u;
}

}  // namespace

Bpe::Bpe(const BpeModel& model) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, model.merges.size() * 2));
  shift_ = 64 - std::countr_zero(capacity);
  table_.resize(capacity);
  for (size_t i = 0; i < model.merges.size(); ++i) {
    const Merge& merge = model.merges[i];
    size_t slot = mix(merge.left, merge.right) >> shift_;
    const auto taken = [&](const Entry& e) { return e.left >= 0 && (e.left != merge.left || e.right != merge.right); };
    while (taken(table_[slot])) slot = (slot + 1) & (capacity - 1);
    table_[slot] = {merge.left, merge.right, static_cast<uint32_t>(i), merge.result};
  }
  byte_tokens_.fill(-1);
  std::unordered_map<std::string_view, uint8_t> bytes;
  for (size_t byte = 0; byte < 256; ++byte) bytes[byte_letters()[byte]] = static_cast<uint8_t>(byte);
  for (size_t id = 0; id < model.tokens.size(); ++id) {
    const std::string& token = model.tokens[id];
    if (token.empty()) continue;
    if (const auto byte = bytes.find(token); byte != bytes.end()) byte_tokens_[byte->second] = static_cast<int32_t>(id);
    if (!model.ignore_merges) continue;
    if (auto word = from_byte_letters(token)) whole_words_.emplace(std::move(*word), static_cast<int32_t>(id));
  }
}

const Bpe::Entry* Bpe::find(int32_t left, int32_t right) const {
  const size_t mask = table_.size() - 1;
  for (size_t slot = mix(left, right) >> shift_;; slot = (slot + 1) & mask) {
    const Entry& entry = table_[slot];
    if (entry.left == left && entry.right == right) return &entry;
    if (entry.left < 0) return nullptr;
  }
}

uint32_t Bpe::rank(int32_t left, int32_t right) const {
  const Entry* entry = find(left, right);
  return entry == nullptr ? kNoRank : entry->rank;
}

void Bpe::encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  if (!whole_words_.empty()) {
    if (const auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  scratch.ids.clear();
  for (const char c : word) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte_tokens_[byte] < 0) fail("the text has byte 0x{:02X}, for which this tokenizer has no token", byte);
    scratch.ids.push_back(byte_tokens_[byte]);
  }
  if (word.size() <= kShortWord) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
  ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
}

void Bpe::merge_short(BpeScratch& scratch) const {
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;
  size_t count = ids.size();
  ranks.resize(count);
  for (size_t i = 0; i + 1 < count; ++i) ranks[i] = rank(ids[i], ids[i + 1]);
  while (count > 1) {
    const size_t at = static_cast<size_t>(
        std::min_element(ranks.begin(), ranks.begin() + static_cast<int64_t>(count) - 1) - ranks.begin());
    if (ranks[at] == kNoRank) break;
    ids[at] = find(ids[at], ids[at + 1])->result;
    --count;
    std::copy(ids.begin() + static_cast<int64_t>(at) + 2, ids.begin() + static_cast<int64_t>(count) + 1,
              ids.begin() + static_cast<int64_t>(at) + 1);
    std::copy(ranks.begin() + static_cast<int64_t>(at) + 1, ranks.begin() + static_cast<int64_t>(count),
              ranks.begin() + static_cast<int64_t>(at));
    if (at + 1 < count) ranks[at] = rank(ids[at], ids[at + 1]);
    if (at > 0) ranks[at - 1] = rank(ids[at - 1], ids[at]);
  }
  ids.resize(count);
}

// A heap of (rank, position) over a linked list. An entry is stale once the pair at its position has another rank.
void Bpe::merge_long(BpeScratch& scratch) const {
  auto& [ids, ranks, previous, next, heap] = scratch;
  const auto count = static_cast<uint32_t>(ids.size());
  ranks.assign(count, kNoRank);
  previous.resize(count);
  next.resize(count);
  heap.clear();
  const auto push = [&](uint32_t at) {
    ranks[at] = next[at] == kNone ? kNoRank : rank(ids[at], ids[next[at]]);
    if (ranks[at] != kNoRank) heap.push_back(uint64_t{ranks[at]} << 32 | at);
    return ranks[at] != kNoRank;
  };
  for (uint32_t at = 0; at < count; ++at) {
    previous[at] = at == 0 ? kNone : at - 1;
    next[at] = at + 1 == count ? kNone : at + 1;
  }
  for (uint32_t at = 0; at < count; ++at) push(at);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto refresh = [&](uint32_t at) {
    if (push(at)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    const uint64_t top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    const auto at = static_cast<uint32_t>(top);
    if (ranks[at] != top >> 32) continue;
    const uint32_t right = next[at];
    ids[at] = find(ids[at], ids[right])->result;
    ids[right] = -1;
    ranks[right] = kNoRank;
    next[at] = next[right];
    if (next[at] != kNone) previous[next[at]] = at;
    refresh(at);
    if (previous[at] != kNone) refresh(previous[at]);
  }
  std::erase(ids, -1);
}

}  // namespace moe
