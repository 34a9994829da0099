#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/byte_letters.h"

namespace moe {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;
constexpr uint32_t kNone = UINT32_MAX;
// Up to this many bytes, searching all ranks for each merge is faster than a heap.
constexpr size_t kShortWord = 96;

// Ids and ranks have this many bits in an entry of the table.
constexpr int kBits = 21;

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << kBits | static_cast<uint32_t>(right);
}

// The bytes of one character.
uint32_t packed(std::string_view character) {
  uint32_t value = 0;
  for (const char c : character) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

uint64_t mix(uint64_t pair) { return (pair ^ pair >> kBits) * 0x9E3779B97F4A7C15u; }

}  // namespace

std::string byte_token_name(uint8_t byte) { return fmt::format("<0x{:02X}>", byte); }

Bpe::Bpe(const BpeModel& model) {
  byte_tokens_.fill(-1);
  fill_table(model);
  find_joins(model);
  model.alphabet == Alphabet::bytes ? find_bytes(model) : find_characters(model);
  if (!model.ignore_merges) return;
  for (size_t id = 0; id < model.tokens.size(); ++id) {
    const std::string& token = model.tokens[id];
    if (token.empty()) continue;
    auto word = model.alphabet == Alphabet::bytes ? from_byte_letters(token) : std::optional(token);
    if (word) whole_words_.emplace(std::move(*word), static_cast<int32_t>(id));
  }
}

void Bpe::find_bytes(const BpeModel& model) {
  std::unordered_map<std::string_view, uint8_t> bytes;
  for (size_t byte = 0; byte < 256; ++byte) bytes[byte_letters()[byte]] = static_cast<uint8_t>(byte);
  for (size_t id = 0; id < model.tokens.size(); ++id) {
    const auto byte = bytes.find(model.tokens[id]);
    if (byte != bytes.end()) byte_tokens_[byte->second] = static_cast<int32_t>(id);
  }
}

void Bpe::find_characters(const BpeModel& model) {
  std::unordered_map<std::string, uint8_t> bytes;
  for (size_t byte = 0; byte < 256; ++byte)
    bytes[byte_token_name(static_cast<uint8_t>(byte))] = static_cast<uint8_t>(byte);
  for (size_t id = 0; id < model.tokens.size(); ++id) {
    const std::string& token = model.tokens[id];
    if (const auto byte = bytes.find(token); byte != bytes.end()) byte_tokens_[byte->second] = static_cast<int32_t>(id);
    if (!token.empty() && utf8_length(token) == token.size()) characters_[packed(token)] = static_cast<int32_t>(id);
  }
}

void Bpe::fill_table(const BpeModel& model) {
  constexpr size_t kMost = (size_t{1} << kBits) - 1;
  if (model.merges.size() > kMost || model.tokens.size() > kMost) {
    fail("the vocabulary has {} tokens and {} merges, expected at most {} of each", model.tokens.size(),
         model.merges.size(), kMost);
  }
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, model.merges.size() * 2));
  shift_ = 64 - std::countr_zero(capacity);
  table_.resize(capacity);
  size_t first = 0;  // of the merges with the same result
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    const Merge& merge = model.merges[rank];
    const uint64_t pair = pair_of(merge.left, merge.right);
    size_t slot = mix(pair) >> shift_;
    while (table_[slot] != 0 && table_[slot] >> kBits != pair) slot = (slot + 1) & (capacity - 1);
    const bool same = model.rank_by_result && rank > 0 && model.merges[rank - 1].result == merge.result;
    if (!same) first = rank;
    table_[slot] = pair << kBits | (first + 1);
    results_.push_back(merge.result);
  }
}

uint32_t Bpe::rank(int32_t left, int32_t right) const {
  const size_t mask = table_.size() - 1;
  const uint64_t pair = pair_of(left, right);
  for (size_t slot = mix(pair) >> shift_;; slot = (slot + 1) & mask) {
    const uint64_t entry = table_[slot];
    if (entry >> kBits == pair && entry != 0) return static_cast<uint32_t>(entry & ((uint64_t{1} << kBits) - 1)) - 1;
    if (entry == 0) return kNoRank;
  }
}

void Bpe::find_joins(const BpeModel& model) {
  std::vector<std::pair<uint8_t, uint8_t>> ends;  // first and last byte, by id
  for (const std::string& token : model.tokens) {
    const auto bytes = model.alphabet == Alphabet::bytes ? from_byte_letters(token) : std::optional(token);
    const bool known = bytes && !bytes->empty();
    ends.emplace_back(known ? bytes->front() : 0, known ? bytes->back() : 0);
  }
  for (const Merge& merge : model.merges) {
    const uint8_t left = ends[static_cast<size_t>(merge.left)].second;
    const uint8_t right = ends[static_cast<size_t>(merge.right)].first;
    joins_[left * 4u + (right >> 6)] |= uint64_t{1} << (right & 63);
  }
  if (model.alphabet == Alphabet::bytes) return;
  // A character is never cut: whatever precedes a continuation byte (0x80 to 0xBF) is joined with it.
  for (size_t left = 0; left < 256; ++left) joins_[left * 4 + 2] = ~uint64_t{0};
}

std::optional<int32_t> Bpe::whole_word(std::string_view word) const {
  if (whole_words_.empty()) return std::nullopt;
  const auto whole = whole_words_.find(std::string(word));
  return whole == whole_words_.end() ? std::nullopt : std::optional(whole->second);
}

void Bpe::encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  if (const auto whole = whole_word(word)) return ids.push_back(*whole);
  for_each_part(word, [&](std::string_view part) { merge(part, scratch, ids); });
}

void Bpe::start_from_bytes(std::string_view part, std::vector<int32_t>& ids) const {
  for (const char c : part) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte_tokens_[byte] < 0) fail("the text has byte 0x{:02X}, for which this tokenizer has no token", byte);
    ids.push_back(byte_tokens_[byte]);
  }
}

void Bpe::start_from_characters(std::string_view part, std::vector<int32_t>& ids) const {
  while (!part.empty()) {
    const size_t length = std::max<size_t>(1, utf8_length(part));
    const std::string_view character = part.substr(0, length);
    const auto known = utf8_length(part) > 0 ? characters_.find(packed(character)) : characters_.end();
    if (known != characters_.end()) {
      ids.push_back(known->second);
    } else {
      start_from_bytes(character, ids);
    }
    part.remove_prefix(length);
  }
}

void Bpe::merge(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  scratch.ids.clear();
  characters_.empty() ? start_from_bytes(part, scratch.ids) : start_from_characters(part, scratch.ids);
  if (part.size() <= kShortWord) {
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
    ids[at] = results_[ranks[at]];
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

// A heap of (rank, position) over a linked list. An entry is stale if the pair at its position has another rank now.
void Bpe::merge_long(BpeScratch& scratch) const {
  auto& ids = scratch.ids;  // not a structured binding: clang 14 does not let lambdas use its names
  auto& ranks = scratch.ranks;
  auto& previous = scratch.previous;
  auto& next = scratch.next;
  auto& heap = scratch.heap;
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
    ids[at] = results_[ranks[at]];
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
