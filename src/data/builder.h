#pragma once
/// Turns text files into a dataset folder. Encodes on all threads.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "data/reader.h"
#include "data/shards.h"

namespace moe {

struct TextSource {
  fs::path file;
  /// The domain of all its documents.
  std::string domain;
};

/// The ids of a text, without BOS and EOS. Several threads call it at once.
using EncodeFunction = std::function<std::vector<int32_t>(std::string_view text)>;
/// The bytes of a text that its ids are scored on (data/scored_text.h). Several threads call it at once.
using ScoredBytesFunction = std::function<int64_t(std::string_view text, std::span<const int32_t> ids)>;

/// The progress of building, over all sources.
struct BuildProgress {
  const TextSource* source = nullptr;
  /// Bytes of the files on disk (compressed bytes, if they are compressed).
  uint64_t bytes_read = 0;
  uint64_t bytes_in_all = 0;
  const DatasetInfo* info = nullptr;
};

struct BuildOptions {
  EncodeFunction encode;
  /// If empty, all bytes count.
  ScoredBytesFunction scored_bytes = {};
  /// Receives about this part of the documents, chosen by a hash of their text. Equal texts stay together.
  DatasetWriter* valid = nullptr;
  double valid_fraction = 0;
  ReadOptions read = {};
  /// Called after each batch of documents, on the calling thread; may be empty.
  std::function<void(const BuildProgress&)> progress = {};
  /// The amount of text that is encoded at once. The same amount is read meanwhile.
  size_t batch_bytes = size_t{8} << 20;
};

struct BuildReport {
  std::vector<int64_t> documents = {};  ///< for each source, with the documents without a token
  int64_t without_tokens = 0;           ///< documents with text that gave no token; they are skipped
};

/// Appends the documents of all sources, in order, to `writer`. The bytes are the same for any number of threads.
/// Domains appear in the order of their first source. Refuses sources if none of them has a document. Does not call
/// writer.finish(). Looks at every file before it reads the first one.
BuildReport add_sources(DatasetWriter& writer, const std::vector<TextSource>& sources, ThreadPool& pool,
                        const BuildOptions& options);

}  // namespace moe
