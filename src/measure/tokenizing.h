#pragma once
/// Encoding text files, and training a vocabulary on them.

#include <cstdint>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "data/reader.h"

namespace moe {

struct EncodingTimes {
  size_t documents = 0, bytes = 0, tokens = 0;
  double one_thread = 0, one_thread_cpu = 0, all_threads = 0;  ///< seconds, the best of the repeats
};

/// Encodes about `bytes` bytes of the files (each gives its share) with the tokenizer of a folder, on one thread and on
/// all of the pool. Warns of a file without a document; an Error if there is no text at all.
EncodingTimes measure_encoding(const std::string& tokenizer, const std::vector<std::string>& files, size_t bytes,
                               int repeats, const ReadOptions& read, ThreadPool& pool);

struct VocabularyTimes {
  uint64_t bytes = 0;
  size_t different_words = 0;
  int32_t tokens = 0;
  double seconds = 0;
};

/// Trains a vocabulary. Reads the files as training does, so reading and decompression count.
VocabularyTimes measure_vocabulary(const std::vector<std::string>& files, int32_t vocab_size, const ReadOptions& read,
                                   ThreadPool& pool);

}  // namespace moe
