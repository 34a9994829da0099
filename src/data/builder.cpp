#include "data/builder.h"

#include <exception>
#include <future>
#include <utility>

#include "base/error.h"
#include "data/reader.h"

namespace moe {
namespace {

/// Documents that wait to be decoded and encoded together.
class Batch {
 public:
  Batch(DatasetWriter& writer, ThreadPool& pool, const EncodeFunction& encode)
      : writer_(&writer), pool_(&pool), encode_(&encode) {}

  void add(RawDocument document) {
    bytes_ += document.bytes.size();
    items_.push_back({.document = std::move(document), .ids = {}, .text_bytes = 0, .error = nullptr});
  }
  size_t bytes() const { return bytes_; }

  /// Encodes all documents and appends them to the dataset.
  void write(int32_t domain) {
    pool_->parallel_for(static_cast<int64_t>(items_.size()),
                        [&](int64_t i, int) { encode(items_[static_cast<size_t>(i)]); });
    for (const Item& item : items_) {
      // Errors wait for their turn, so that the one reported is the first of the file.
      if (item.error) std::rethrow_exception(item.error);
      if (item.text_bytes > 0) writer_->add_document(item.ids, domain, item.text_bytes);
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

  void encode(Item& item) const {
    try {
      const std::string text = item.document.text();
      item.text_bytes = static_cast<int64_t>(text.size());
      if (!text.empty()) item.ids = (*encode_)(text);
    } catch (...) {
      item.error = std::current_exception();
    }
  }

  DatasetWriter* writer_;
  ThreadPool* pool_;
  const EncodeFunction* encode_;
  std::vector<Item> items_;
  size_t bytes_ = 0;
};

/// Two batches that take turns: while one is encoded and written, the other is read.
class Batches {
 public:
  Batches(DatasetWriter& writer, ThreadPool& pool, const EncodeFunction& encode)
      : reading_(writer, pool, encode), writing_(writer, pool, encode) {}

  void add(RawDocument document) { reading_.add(std::move(document)); }
  size_t bytes() const { return reading_.bytes(); }

  /// Waits for the batch before, then begins to write what was read.
  void flush(int32_t domain) {
    wait();
    std::swap(reading_, writing_);
    written_ = std::async(std::launch::async, [this, domain] { writing_.write(domain); });
  }
  /// All that was flushed is in the dataset; rethrows its first error.
  void wait() {
    if (written_.valid()) written_.get();
  }

 private:
  Batch reading_, writing_;
  std::future<void> written_;  // last: its destructor waits for the thread that uses the others
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
  Batches batches(writer, pool, options.encode);
  for (const TextSource& source : sources) {
    const int32_t domain = writer.add_domain(source.domain);
    const int64_t documents_before = writer.info().documents();
    const uint64_t read_before = progress.bytes_read;
    progress.source = &source;
    // What is shown is what has been written, one batch behind what has been read.
    const auto show = [&](uint64_t bytes_read) {
      batches.wait();
      progress.bytes_read = read_before + bytes_read;
      if (options.progress) options.progress(progress);
    };
    uint64_t flushed = 0;
    for_each_raw_document(source.file, [&](RawDocument document, uint64_t bytes_read) {
      batches.add(std::move(document));
      if (batches.bytes() < options.batch_bytes) return;
      show(flushed);
      batches.flush(domain);
      flushed = bytes_read;
    });
    batches.flush(domain);
    show(size_on_disk(source.file));
    if (writer.info().documents() == documents_before) {
      fail("{} holds no document; leave it out or check how it was made", source.file.string());
    }
  }
}

}  // namespace moe
