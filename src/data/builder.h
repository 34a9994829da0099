#pragma once
/// Turns text files into a dataset folder, tokenising on all threads.

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
  /// Label of all its documents.
  std::string domain;
};

/// The ids of a text, without BOS and EOS; called from several threads at once.
using EncodeFunction = std::function<std::vector<int32_t>(std::string_view text)>;
/// Bytes of a text that its ids are scored on (data/scored_text.h); likewise.
using ScoredBytesFunction = std::function<int64_t(std::string_view text, std::span<const int32_t> ids)>;

/// How far the building is, over all sources.
struct BuildProgress {
  const TextSource* source = nullptr;
  /// Of the files on disk, compressed where they are.
  uint64_t bytes_read = 0;
  uint64_t bytes_in_all = 0;
  const DatasetInfo* info = nullptr;
};

struct BuildOptions {
  EncodeFunction encode;
  /// Empty: all bytes.
  ScoredBytesFunction scored_bytes = {};
  /// Where the documents go that a hash of their text picks, about this part of them; equal texts go together.
  DatasetWriter* valid = nullptr;
  double valid_fraction = 0;
  ReadOptions read = {};
  /// Called after each batch of documents, from the calling thread; may be empty.
  std::function<void(const BuildProgress&)> progress = {};
  /// Text that is encoded at once; as much again is read meanwhile.
  size_t batch_bytes = size_t{8} << 20;
};

struct BuildReport {
  std::vector<int64_t> documents = {};  ///< of each source, those without a token included
  int64_t without_tokens = 0;      ///< documents with text that gave no token; they are passed over
};

/// Appends the documents of all sources, in order, to `writer`: the same bytes for any number of threads. Domains
/// appear in the order of their first source. Refuses sources of which none has a document. Does not call
/// writer.finish(). Every file is looked at before the first is read.
BuildReport add_sources(DatasetWriter& writer, const std::vector<TextSource>& sources, ThreadPool& pool,
                        const BuildOptions& options);

}  // namespace moe
