#pragma once
/// Trains a byte-level BPE tokenizer. The vocabulary is, by id: the special tokens below, the 256 bytes, then one token
/// a merge. Text is cut into words by a regular expression first (TrainerOptions::pattern).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/text_sample.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/word_counts.h"

namespace moe {

inline constexpr std::string_view kTrainedBos = "<｜begin▁of▁sentence｜>";  // id 0
inline constexpr std::string_view kTrainedEos = "<｜end▁of▁sentence｜>";    // id 1
inline constexpr std::string_view kTrainedPad = "<｜▁pad▁｜>";              // id 2
/// Ids 3 to 18 are <｜reserved_0｜> to <｜reserved_15｜>: without a meaning yet, for fine-tuning.
inline constexpr int32_t kReservedTokens = 16;
inline constexpr int32_t kSpecialTokens = 3 + kReservedTokens;

/// The expression that cuts text into words, by name: "moe" (kTrainedPattern, pattern.h) or "qwen2" (that of Qwen2's
/// tokenizers, which other programs know by this name). Any other name is a usage error.
std::string_view word_pattern(std::string_view name);

/// The sizes that a vocabulary can have: special tokens and the 256 bytes are always in it.
inline constexpr int32_t kLeastVocabulary = kSpecialTokens + 256, kMostVocabulary = 1 << 20;

struct TrainerOptions {
  int32_t vocab_size = 8192;    ///< special tokens and bytes included
  std::string pattern = "moe";  ///< a name that word_pattern() knows
  int64_t max_bytes = 0;        ///< of text that is counted, a sample where there is more; 0: all of it
};

class TokenizerTrainer {
 public:
  /// A vocabulary that does not hold the bytes and special tokens is a usage error. `pool` must outlive the trainer.
  TokenizerTrainer(TrainerOptions options, ThreadPool& pool);

  /// Counts the words of one text. Bytes that are not UTF-8 are passed over. Memory grows with the different words
  /// only: up to about 12 bytes for each byte of Chinese text, whose words are hardly ever the same. With max_bytes the
  /// texts are kept and counted by finish().
  void add_document(std::string_view text);

  /// Learns the merges. The tokenizer puts BOS before a text and nothing behind it; saved, it is a tokenizer.json with
  /// tokenizer_config.json. It depends on the texts alone, neither on their order nor on the number of threads. It has
  /// fewer tokens than asked for where the texts have no further pair of tokens that occurs twice.
  Tokenizer finish();

  uint64_t text_bytes() const { return text_bytes_; }
  /// Of them, the bytes whose words were counted; valid after finish().
  uint64_t counted_bytes() const { return counted_bytes_; }
  /// Different words; valid after finish().
  uint64_t word_count() const { return word_count_; }

 private:
  void add_to_batch(std::string text);
  void count_batch();

  TrainerOptions options_;
  ThreadPool& pool_;
  PreTokenizer pre_tokenizer_;
  std::vector<WordCounts> counts_;  // by worker
  std::vector<RegexScratch> scratch_;
  std::vector<std::string> batch_;
  size_t batch_bytes_ = 0;
  TextSample sample_;
  uint64_t text_bytes_ = 0;
  uint64_t counted_bytes_ = 0;
  uint64_t word_count_ = 0;
};

}  // namespace moe
