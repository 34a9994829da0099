#pragma once
/// Byte-pair encoding of one word: starting from its bytes, the pair of lowest rank is merged (the leftmost of equals)
/// until no two neighbours have a merge.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moe {

/// Tokens `left` and `right` side by side become `result`. Its rank is its place in the list of merges.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t result;
};

struct BpeModel {
  std::vector<std::string> tokens;  // by id, in byte letters; empty: an id without a token
  std::vector<Merge> merges;        // of one pair listed twice the later entry counts
  bool ignore_merges = false;       // a word that is a token as a whole needs no merges
};

/// What one thread needs to encode words; holds no results.
struct BpeScratch {
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<uint32_t> previous, next;
  std::vector<uint64_t> heap;
};

class Bpe {
 public:
  explicit Bpe(const BpeModel& model);

  /// Appends the ids of `word` (any bytes). A byte without a token is an error. Time grows as n log n. Thread-safe.
  void encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const;

  /// The token of a single byte, -1 where the vocabulary has none.
  int32_t byte_token(uint8_t byte) const { return byte_tokens_[byte]; }

 private:
  struct Entry {
    int32_t left = -1;
    int32_t right = -1;
    uint32_t rank = 0;
    int32_t result = -1;
  };

  const Entry* find(int32_t left, int32_t right) const;
  uint32_t rank(int32_t left, int32_t right) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;

  std::array<int32_t, 256> byte_tokens_;
  std::vector<Entry> table_;                              // open addressing; a power of two, at most half full
  int shift_ = 0;                                         // 64 - log2(table size)
  std::unordered_map<std::string, int32_t> whole_words_;  // only with ignore_merges
};

}  // namespace moe
