#pragma once
/// Trains a byte-level BPE tokenizer. The vocabulary has, by id: the special tokens below, the 256 bytes, then one
/// token per merge. First a regular expression cuts the text into words (TrainerOptions::pattern).

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
/// Ids 3 to 18 are <｜reserved_0｜> to <｜reserved_15｜>. They have no meaning yet and are for fine-tuning.
inline constexpr int32_t kReservedTokens = 16;
inline constexpr int32_t kSpecialTokens = 3 + kReservedTokens;

/// The expression that cuts text into words, by name: "moe" (kTrainedPattern, pattern.h) or "qwen2" (the one of Qwen2's
/// tokenizers; other programs know it by this name). Any other name is a usage error.
std::string_view word_pattern(std::string_view name);

/// The sizes that a vocabulary can have. It always contains the special tokens and the 256 bytes.
inline constexpr int32_t kLeastVocabulary = kSpecialTokens + 256, kMostVocabulary = 1 << 20;

struct TrainerOptions {
  int32_t vocab_size = 8192;    ///< number of tokens, with special tokens and bytes
  std::string pattern = "moe";  ///< a name that word_pattern() knows
  int64_t max_bytes = 0;        ///< bytes of text to count; if there is more text, a sample is counted; 0: all text
};

/// For one thread at a time.
class TokenizerTrainer {
 public:
  /// A vocabulary that is too small for the bytes and special tokens is a usage error. `pool` must outlive the trainer.
  /// Use a trainer on one thread at a time.
  TokenizerTrainer(TrainerOptions options, ThreadPool& pool);

  /// Counts the words of one text. Bytes that are not UTF-8 are skipped. Memory grows only with the number of different
  /// words: up to about 12 bytes per byte of Chinese text, whose words rarely repeat. With max_bytes, texts are kept,
  /// and finish() counts them.
  void add_document(std::string_view text);

  /// Learns the merges. The tokenizer puts BOS before a text and nothing after it. It is saved as a tokenizer.json with
  /// tokenizer_config.json. It depends only on the texts, neither on their order nor on the number of threads. If no
  /// other pair of tokens occurs twice in the texts, it has fewer tokens than requested.
  Tokenizer finish();

  uint64_t text_bytes() const { return text_bytes_; }
  /// The bytes whose words were counted; valid after finish().
  uint64_t counted_bytes() const { return counted_bytes_; }
  /// The number of different words; valid after finish().
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
