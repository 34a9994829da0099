#include "data/builder.h"

#include <algorithm>
#include <exception>
#include <future>
#include <utility>

#include "base/error.h"
#include "data/reader.h"

namespace moe {
namespace {

/// Documents that are decoded and encoded together.
class Batch {
 public:
  void add(RawDocument document, size_t source, int32_t domain) {
    bytes_ += document.bytes.size();
    items_.push_back({.document = std::move(document), .source = source, .domain = domain});
  }
  size_t bytes() const { return bytes_; }

  void encode(ThreadPool& pool, const EncodeFunction& encode) {
    pool.parallel_for(static_cast<int64_t>(items_.size()),
                      [&](int64_t i, int) { encode_item(items_[static_cast<size_t>(i)], encode); });
  }

  /// Appends the encoded documents to the dataset, adds them to the numbers of their sources, and is empty again.
  void write(DatasetWriter& writer, std::vector<int64_t>& documents) {
    for (const Item& item : items_) {
      // Errors wait for their turn, so that the one reported is the first of the file.
      if (item.error) std::rethrow_exception(item.error);
      if (item.text_bytes == 0) continue;
      writer.add_document(item.ids, item.domain, item.text_bytes);
      ++documents[item.source];
    }
    items_.clear();
    bytes_ = 0;
  }

 private:
  struct Item {
    RawDocument document;
    size_t source;
    int32_t domain;
    std::vector<int32_t> ids = {};
    int64_t text_bytes = 0;
    std::exception_ptr error = nullptr;
  };

  static void encode_item(Item& item, const EncodeFunction& encode) {
    try {
      const std::string text = item.document.text();
      item.text_bytes = static_cast<int64_t>(text.size());
      if (!text.empty()) item.ids = encode(text);
    } catch (...) {
      item.error = std::current_exception();
    }
  }

  std::vector<Item> items_;
  size_t bytes_ = 0;
};

/// Three batches that take turns: while one is encoded, the one before is written and the next one read.
class Batches {
 public:
  Batches(DatasetWriter& writer, ThreadPool& pool, const EncodeFunction& encode, size_t sources)
      : writer_(writer), pool_(pool), encode_(encode), documents_(sources, 0) {}

  Batch& reading() { return reading_; }
  /// Whether a batch could not be written.
  bool failed() const { return failed_; }

  /// Begins to encode what was read, and writes the batch before.
  void flush() {
    wait();
    std::swap(encoding_, writing_);
    std::swap(reading_, encoding_);
    encoded_ = std::async(std::launch::async, [this] { encoding_.encode(pool_, encode_); });
    write(writing_);
  }
  /// Writes what is left; the number of documents of each source.
  const std::vector<int64_t>& drain() {
    flush();
    wait();
    write(encoding_);
    return documents_;
  }

 private:
  void wait() {
    if (encoded_.valid()) encoded_.get();
  }
  void write(Batch& batch) {
    failed_ = true;
    batch.write(writer_, documents_);
    failed_ = false;
  }

  DatasetWriter& writer_;
  ThreadPool& pool_;
  const EncodeFunction& encode_;
  std::vector<int64_t> documents_;
  Batch reading_, encoding_, writing_;
  bool failed_ = false;
  std::future<void> encoded_;  // last: its destructor waits for the thread that uses the others
};

// Pipes have no size; they count as nothing.
uint64_t size_on_disk(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : size;
}

}  // namespace

void add_sources(DatasetWriter& writer, const std::vector<TextSource>& sources, ThreadPool& pool,
                 const BuildOptions& options) {
  BuildProgress progress{.info = &writer.info()};
  for (const TextSource& source : sources) {
    check_document_file(source.file);
    if (!fs::exists(source.file)) fail("cannot open {}: there is no such file", source.file.string());
    progress.bytes_in_all += size_on_disk(source.file);
  }
  Batches batches(writer, pool, options.encode, sources.size());
  const auto show = [&](uint64_t bytes_read) {
    progress.bytes_read = bytes_read;
    if (options.progress) options.progress(progress);
  };
  uint64_t read_before = 0, flushed = 0;
  // The first batches are small: nothing is encoded while the very first one is read.
  size_t enough = options.batch_bytes / 16;
  for (size_t i = 0; i < sources.size(); ++i) {
    progress.source = &sources[i];
    const int32_t domain = writer.add_domain(sources[i].domain);
    const auto add = [&](RawDocument document, uint64_t bytes_read) {
      batches.reading().add(std::move(document), i, domain);
      if (batches.reading().bytes() < enough) return;
      batches.flush();
      show(flushed);  // what has been written is one batch behind what has been read
      flushed = read_before + bytes_read;
      enough = std::min(2 * enough, options.batch_bytes);
    };
    try {
      for_each_raw_document(sources[i].file, add);
    } catch (...) {
      if (!batches.failed()) batches.drain();  // what is wrong with documents before this one comes first
      throw;
    }
    read_before += size_on_disk(sources[i].file);
  }
  const std::vector<int64_t>& documents = batches.drain();
  for (size_t i = 0; i < sources.size(); ++i) {
    if (documents[i] > 0) continue;
    fail("{} holds no document; leave it out or check how it was made", sources[i].file.string());
  }
  show(read_before);
}

}  // namespace moe
