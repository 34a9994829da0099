#include "tokenizer/merge_learner.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

namespace moe {
namespace {

constexpr int64_t kMinCount = 2;
constexpr int32_t kBytes = 256;

// Internally, tokens are numbered from the first byte, which is 0.
struct Pair {
  int32_t left;
  int32_t right;

  uint64_t key() const { return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right); }
};

struct Candidate {
  int64_t count;
  Pair pair;

  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair.key() > other.pair.key();
  }
};

struct PairRecord {
  int64_t count = 0;
  std::vector<uint32_t> words;  // words in which it occurs or occurred, each once
};

/// Changes in the counts of pairs that share one member, ordered by the other member.
class Changes {
 public:
  struct Visit {
    int32_t other;
    uint32_t word;
  };

  explicit Changes(size_t tokens) : count_(tokens, 0), last_word_(tokens, kNoWord) {}

  void add(int32_t other, int64_t change, uint32_t word) {
    const auto at = static_cast<size_t>(other);
    if (last_word_[at] == kNoWord) touched_.push_back(other);
    if (last_word_[at] != word && change > 0) visits_.push_back({other, word});
    last_word_[at] = word;
    count_[at] += change;
  }

  int64_t count(int32_t other) const { return count_[static_cast<size_t>(other)]; }
  const std::vector<int32_t>& touched() const { return touched_; }
  const std::vector<Visit>& visits() const { return visits_; }

  void clear() {
    for (const int32_t other : touched_) {
      count_[static_cast<size_t>(other)] = 0;
      last_word_[static_cast<size_t>(other)] = kNoWord;
    }
    touched_.clear();
    visits_.clear();
  }

 private:
  static constexpr uint32_t kNoWord = UINT32_MAX;

  std::vector<int64_t> count_;
  std::vector<uint32_t> last_word_;
  std::vector<int32_t> touched_;
  std::vector<Visit> visits_;  // words in which a pair occurred, each once
};

class Learner {
 public:
  Learner(const WordCounts& words, int32_t merges)
      : before_left_(tokens(merges)),
        after_right_(tokens(merges)),
        before_new_(tokens(merges)),
        after_new_(tokens(merges)) {
    spell_bytes();
    load(words);
    count_byte_pairs();
  }

  void run(int32_t merges, LearnedMerges& result) {
    while (static_cast<int32_t>(result.merges.size()) < merges && !queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const auto record = pairs_.find(top.pair.key());
      if (record == pairs_.end()) continue;
      if (record->second.count != top.count) {
        enqueue(top.pair, record->second.count);
        continue;
      }
      std::string joined =
          spelling_[static_cast<size_t>(top.pair.left)] + spelling_[static_cast<size_t>(top.pair.right)];
      if (!known_.insert(joined).second) continue;
      result.tokens.push_back(joined);
      spelling_.push_back(std::move(joined));
      const auto merged = static_cast<int32_t>(spelling_.size()) - 1;
      result.merges.push_back({top.pair.left, top.pair.right, merged});
      const std::vector<uint32_t> where = std::move(record->second.words);
      pairs_.erase(record);
      apply(top.pair, merged, where);
    }
  }

 private:
  static size_t tokens(int32_t merges) { return static_cast<size_t>(kBytes + merges); }

  void spell_bytes() {
    for (int32_t byte = 0; byte < kBytes; ++byte) {
      spelling_.emplace_back(1, static_cast<char>(byte));
      known_.insert(spelling_.back());
    }
  }

  void load(const WordCounts& words) {
    begin_.reserve(words.size() + 1);
    counts_.reserve(words.size());
    size_t bytes = 0;
    words.for_each([&](const WordCounts::Word& word) { bytes += word.size; });
    symbols_.reserve(bytes);
    words.for_each([&](const WordCounts::Word& word) {
      if (word.size < 2) return;
      begin_.push_back(symbols_.size());
      counts_.push_back(word.count);
      for (const char byte : word.text()) symbols_.push_back(static_cast<uint8_t>(byte));
      size_.push_back(word.size);
    });
  }

  void enqueue(Pair pair, int64_t count) {
    if (count >= kMinCount) queue_.push({count, pair});
  }

  // Byte pairs have a separate table while they are counted. Two passes, so that each list gets its final size at once.
  void count_byte_pairs() {
    constexpr size_t kPairs = size_t{kBytes} * kBytes;
    std::vector<PairRecord> records(kPairs);
    std::vector<uint32_t> places(kPairs, 0), last_word(kPairs, UINT32_MAX);
    const auto for_each_pair = [&](auto&& f) {
      for (uint32_t word = 0; word < counts_.size(); ++word) {
        const int32_t* symbols = symbols_.data() + begin_[word];
        for (uint32_t i = 0; i + 1 < size_[word]; ++i)
          f(static_cast<size_t>(symbols[i] * kBytes + symbols[i + 1]), word);
      }
    };
    for_each_pair([&](size_t pair, uint32_t word) {
      records[pair].count += counts_[word];
      places[pair] += last_word[pair] != word;
      last_word[pair] = word;
    });
    for (size_t pair = 0; pair < kPairs; ++pair) records[pair].words.reserve(places[pair]);
    for_each_pair([&](size_t pair, uint32_t word) {
      auto& list = records[pair].words;
      if (list.empty() || list.back() != word) list.push_back(word);
    });
    for (size_t pair = 0; pair < kPairs; ++pair) {
      const Pair members{static_cast<int32_t>(pair / kBytes), static_cast<int32_t>(pair % kBytes)};
      if (records[pair].count < kMinCount) continue;
      enqueue(members, records[pair].count);
      pairs_.emplace(members.key(), std::move(records[pair]));
    }
  }

  void apply(Pair pair, int32_t merged, const std::vector<uint32_t>& where) {
    for (const uint32_t word : where) rewrite(word, pair, merged);
    for (const int32_t other : before_left_.touched()) lower({other, pair.left}, before_left_.count(other));
    for (const int32_t other : after_right_.touched()) lower({pair.right, other}, after_right_.count(other));
    make_pairs(before_new_, [&](int32_t other) { return Pair{other, merged}; });
    make_pairs(after_new_, [&](int32_t other) { return Pair{merged, other}; });
    for (Changes* changes : {&before_left_, &after_right_, &before_new_, &after_new_}) changes->clear();
  }

  // A neighbour that was just merged is `merged` itself. Its pairs are counted with the new ones.
  void rewrite(uint32_t word, Pair pair, int32_t merged) {
    int32_t* symbols = symbols_.data() + begin_[word];
    const uint32_t size = size_[word];
    const int64_t count = counts_[word];
    uint32_t out = 0;
    for (uint32_t in = 0; in < size; ++in) {
      if (in + 1 == size || symbols[in] != pair.left || symbols[in + 1] != pair.right) {
        symbols[out++] = symbols[in];
        continue;
      }
      if (out > 0 && symbols[out - 1] == merged) {
        after_new_.add(pair.left, -count, word);
        before_new_.add(merged, count, word);
      } else if (out > 0) {
        before_left_.add(symbols[out - 1], -count, word);
        before_new_.add(symbols[out - 1], count, word);
      }
      if (in + 2 < size) {
        after_right_.add(symbols[in + 2], -count, word);
        after_new_.add(symbols[in + 2], count, word);
      }
      symbols[out++] = merged;
      ++in;
    }
    size_[word] = out;
  }

  void lower(Pair pair, int64_t change) {
    const auto record = pairs_.find(pair.key());
    if (record == pairs_.end()) return;
    record->second.count += change;
    if (record->second.count < kMinCount) pairs_.erase(record);
  }

  template <class PairWith>
  void make_pairs(const Changes& changes, PairWith pair_with) {
    for (const int32_t other : changes.touched()) {
      if (changes.count(other) < kMinCount) continue;
      pairs_[pair_with(other).key()].count = changes.count(other);
      enqueue(pair_with(other), changes.count(other));
    }
    for (const auto [other, word] : changes.visits()) {
      if (changes.count(other) >= kMinCount) pairs_[pair_with(other).key()].words.push_back(word);
    }
  }

  std::vector<int32_t> symbols_;  // of all words; those of word w are size_[w] symbols from begin_[w] on
  std::vector<size_t> begin_;
  std::vector<uint32_t> size_;
  std::vector<int64_t> counts_;
  std::unordered_map<uint64_t, PairRecord> pairs_;
  std::priority_queue<Candidate> queue_;  // after a pair is made its count only falls, so an old entry is too high
  std::vector<std::string> spelling_;
  std::unordered_set<std::string> known_;
  Changes before_left_, after_right_, before_new_, after_new_;
};

}  // namespace

LearnedMerges learn_merges(const WordCounts& words, int32_t first_byte_id, int32_t count) {
  LearnedMerges result;
  Learner(words, count).run(count, result);
  for (Merge& merge : result.merges) {
    for (int32_t* id : {&merge.left, &merge.right, &merge.result}) *id += first_byte_id;
  }
  return result;
}

}  // namespace moe
