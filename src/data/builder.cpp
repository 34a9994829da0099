#include "data/builder.h"

#include <exception>
#include <future>
#include <utility>

#include "base/error.h"
#include "data/reader.h"

namespace moe {
namespace {

/// Documents of one source that are decoded and encoded together.
class Batch {
 public:
  void add(RawDocument document) {
    bytes_ += document.bytes.size();
    items_.push_back({.document = std::move(document), .ids = {}, .text_bytes = 0, .error = nullptr});
  }
  size_t bytes() const { return bytes_; }
  void set_source(size_t source, int32_t domain) { source_ = source, domain_ = domain; }

  void encode(ThreadPool& pool, const EncodeFunction& encode) {
    pool.parallel_for(static_cast<int64_t>(items_.size()),
                      [&](int64_t i, int) { encode_item(items_[static_cast<size_t>(i)], encode); });
  }

  /// Appends the encoded documents to the dataset, adds their number to that of their source, and is empty again.
  void write(DatasetWriter& writer, std::vector<int64_t>& documents) {
    for (const Item& item : items_) {
      // Errors wait for their turn, so that the one reported is the first of the file.
      if (item.error) std::rethrow_exception(item.error);
      if (item.text_bytes == 0) continue;
      writer.add_document(item.ids, domain_, item.text_bytes);
      ++documents[source_];
    }
    items_.clear();
    bytes_ = 0;
  }

 private:
  struct Item {
    RawDocument document;
    std::vector<int32_t> ids;
    int64_t text_bytes;
    std::exception_ptr error;
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
  size_t source_ = 0;
  int32_t domain_ = 0;
};

/// Three batches that take turns: while one is encoded, the one before is written and the next one read.
class Batches {
 public:
  Batches(DatasetWriter& writer, ThreadPool& pool, const EncodeFunction& encode, size_t sources)
      : writer_(writer), pool_(pool), encode_(encode), documents_(sources, 0) {}

  void add(RawDocument document) { reading_.add(std::move(document)); }
  size_t bytes() const { return reading_.bytes(); }

  /// Begins to encode what was read, and writes the batch before.
  void flush(size_t source, int32_t domain) {
    wait();
    std::swap(encoding_, writing_);
    std::swap(reading_, encoding_);
    encoding_.set_source(source, domain);
    encoded_ = std::async(std::launch::async, [this] { encoding_.encode(pool_, encode_); });
    writing_.write(writer_, documents_);
  }
  /// Writes what is left; the number of documents of each source.
  const std::vector<int64_t>& drain() {
    wait();
    encoding_.write(writer_, documents_);
    return documents_;
  }

 private:
  void wait() {
    if (encoded_.valid()) encoded_.get();
  }

  DatasetWriter& writer_;
  ThreadPool& pool_;
  const EncodeFunction& encode_;
  std::vector<int64_t> documents_;
  Batch reading_, encoding_, writing_;
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
  uint64_t read_before = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    progress.source = &sources[i];
    const int32_t domain = writer.add_domain(sources[i].domain);
    uint64_t flushed = 0;
    for_each_raw_document(sources[i].file, [&](RawDocument document, uint64_t bytes_read) {
      batches.add(std::move(document));
      if (batches.bytes() < options.batch_bytes) return;
      batches.flush(i, domain);
      show(read_before + flushed);  // what has been written is one batch behind what has been read
      flushed = bytes_read;
    });
    batches.flush(i, domain);
    show(read_before + flushed);
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
