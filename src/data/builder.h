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

/// What becomes of a document.
struct EncodedDocument {
  std::vector<int32_t> ids = {};
  /// Which ids are learned. If it is empty, the ids are those of a text alone, and BOS and EOS are added.
  std::vector<uint8_t> marks = {};
  int64_t text_bytes = 0;    ///< 0: the document is empty
  int64_t scored_bytes = 0;  ///< the bytes that its targets stand for (data/scored_text.h)
  uint64_t hash = 0;         ///< of the content, which chooses the documents for validation
  bool left_out = false;     ///< it is not written; the encoder has counted it
  /// Documents that are written directly behind it, with it or not at all.
  std::vector<EncodedDocument> others = {};
};

/// Several threads call it at once.
using EncodeFunction = std::function<EncodedDocument(const RawDocument& document)>;

/// The ids of a text, without BOS and EOS. Several threads call it at once.
using TextToIds = std::function<std::vector<int32_t>(std::string_view text)>;
/// The bytes of a text that its ids are scored on (data/scored_text.h). Several threads call it at once.
using ScoredBytesFunction = std::function<int64_t(std::string_view text, std::span<const int32_t> ids)>;

/// Documents as plain text: RawDocument::text(field). Without `scored_bytes` all bytes count.
EncodeFunction encode_texts(TextToIds ids, std::string field = "text", ScoredBytesFunction scored_bytes = {});

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
  /// Receives about this part of the documents, chosen by a hash of their content. Equal ones stay together.
  DatasetWriter* valid = nullptr;
  double valid_fraction = 0;
  ReadOptions read = {};
  /// Called after each batch of documents, on the calling thread; may be empty.
  std::function<void(const BuildProgress&)> progress = {};
  /// The amount of text that is encoded at once. The same amount is read meanwhile.
  size_t batch_bytes = size_t{8} << 20;
};

struct BuildReport {
  int64_t written = 0;
  std::vector<int64_t> documents = {};  ///< for each source, with the documents without a token
  int64_t without_tokens = 0;           ///< documents with text that gave no token; they are skipped
};

/// Appends the documents of all sources, in order, to `writer`. The bytes are the same for any number of threads.
/// Domains appear in the order of their first source. Refuses sources if none of them has a document. Does not call
/// writer.finish(). Looks at every file before it reads the first one.
BuildReport add_sources(DatasetWriter& writer, const std::vector<TextSource>& sources, ThreadPool& pool,
                        const BuildOptions& options);

}  // namespace moe
