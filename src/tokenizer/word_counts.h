#pragma once
/// How often each word occurs: the input of BPE training.

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace moe {

/// For one thread at a time.
class WordCounts {
 public:
  struct Word {
    const char* data = nullptr;  // null: a free place
    uint32_t size = 0;
    uint32_t hash = 0;
    int64_t count = 0;

    std::string_view text() const { return {data, size}; }
  };

  WordCounts();

  /// Adds `count` occurrences. The bytes are copied if the word is new.
  void add(std::string_view word, int64_t count = 1);
  /// Adds all words of `other`, which is empty afterwards.
  void take(WordCounts& other);

  size_t size() const { return used_; }

  /// Calls f(const Word&) for each word, in no particular order.
  template <class F>
  void for_each(F&& f) const {
    for (const Word& word : table_) {
      if (word.data != nullptr) f(word);
    }
  }

 private:
  Word& place(std::string_view word, uint32_t hash);
  const char* store(std::string_view word);
  void grow();

  std::vector<Word> table_;  // open addressing, a power of two
  size_t used_ = 0;
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t block_left_ = 0;
  char* block_end_ = nullptr;
};

}  // namespace moe
