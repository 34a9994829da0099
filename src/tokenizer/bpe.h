#pragma once
/// Byte-pair encoding of one word. It starts from the bytes and merges the pair of lowest rank (the leftmost among
/// equals), until no two neighbours have a merge.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moe {

/// The adjacent tokens `left` and `right` become `result`. The rank of a merge is its place in the list.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t result;
};

/// The bytes of a token at most, where a file has no merges: they are found by cutting each token in all ways, in a
/// time that grows with the square of its length.
inline constexpr size_t kLongestTokenToCut = 4096;

/// What the tokens of a vocabulary spell.
enum class Alphabet {
  bytes,       // byte letters: merging starts from the bytes
  characters,  // text, as SentencePiece has it: merging starts from the characters; one without a token becomes <0xNN>
};

struct BpeModel {
  std::vector<std::string> tokens;  // by id, as the alphabet says; empty: an id without a token
  std::vector<Merge> merges;        // if a pair is listed twice, the later entry counts
  bool ignore_merges = false;       // a word that is one token needs no merges
  Alphabet alphabet = Alphabet::bytes;
  bool rank_by_result = false;  // merges with one result follow each other and have one rank: the leftmost goes first
};

/// The name of a byte's token in a vocabulary of characters, such as <0x0A>.
std::string byte_token_name(uint8_t byte);

/// Working memory for one thread that encodes words. It holds no results.
struct BpeScratch {
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<uint32_t> previous, next;
  std::vector<uint64_t> heap;
};

/// Several threads may encode with it, each with its own scratch.
class Bpe {
 public:
  explicit Bpe(const BpeModel& model);

  /// Appends the ids of `word` (any bytes). A byte without a token is an error. Time grows as n log n. Several threads
  /// may call it. It equals whole_word() and, if that has no token, merge() of each part.
  void encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const;

  /// The token of a word that needs no merges (BpeModel::ignore_merges).
  std::optional<int32_t> whole_word(std::string_view word) const;

  /// Cuts `word` where no merge joins the bytes on both sides, and calls f(std::string_view) for each part, in order.
  /// The ids of a word are the ids of its parts.
  template <class F>
  void for_each_part(std::string_view word, F&& f) const {
    size_t begin = 0;
    for (size_t at = 1; at < word.size(); ++at) {
      if (joined(static_cast<uint8_t>(word[at - 1]), static_cast<uint8_t>(word[at]))) continue;
      f(word.substr(begin, at - begin));
      begin = at;
    }
    f(word.substr(begin));
  }

  /// Appends the ids of a part.
  void merge(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& ids) const;

 private:
  bool joined(uint8_t left, uint8_t right) const { return joins_[left * 4u + (right >> 6)] >> (right & 63) & 1; }
  void find_bytes(const BpeModel& model);
  void find_characters(const BpeModel& model);
  void find_joins(const BpeModel& model);
  void start_from_bytes(std::string_view part, std::vector<int32_t>& ids) const;
  void start_from_characters(std::string_view part, std::vector<int32_t>& ids) const;
  void fill_table(const BpeModel& model);
  uint32_t rank(int32_t left, int32_t right) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;

  std::array<int32_t, 256> byte_tokens_;
  std::unordered_map<uint32_t, int32_t> characters_;  // by the bytes of a character; only with that alphabet
  std::array<uint64_t, 256 * 4> joins_{};             // one bit for each pair of bytes that some merge brings together
  // Open addressing; a power of two, at most half full. An entry is left << 42 | right << 21 | rank + 1; 0 is none.
  std::vector<uint64_t> table_;
  std::vector<int32_t> results_;                          // by rank
  int shift_ = 0;                                         // 64 - log2(table size)
  std::unordered_map<std::string, int32_t> whole_words_;  // only with ignore_merges
};

}  // namespace moe
