#include "data/builder.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/paths.h"
#include "base/random.h"
#include "base/thread_start.h"
#include "base/units.h"
#include "data/reader.h"

namespace moe {
namespace {

// A function of the document only, whatever other documents there are.
bool is_picked(uint64_t hash, double fraction) {
  static const uint64_t stream = hash_name("data.valid_fraction");
  return Random(hash, stream).uniform(0) < fraction;
}

/// Documents that are decoded and encoded together.
class Batch {
 public:
  void add(RawDocument document, size_t source, int32_t domain) {
    bytes_ += document.bytes.size();
    items_.push_back({.document = std::move(document), .source = source, .domain = domain});
  }
  size_t bytes() const { return bytes_; }

  void encode(ThreadPool& pool, const BuildOptions& options) {
    pool.parallel_for(static_cast<int64_t>(items_.size()),
                      [&](int64_t i, int) { encode_item(items_[static_cast<size_t>(i)], options); });
  }

  /// Appends the encoded documents to the datasets and adds them to the counts of their sources. Then the batch is
  /// empty again.
  void write(DatasetWriter& writer, const BuildOptions& options, BuildReport& report) {
    for (const Item& item : items_) {
      // Errors wait for their turn, so that the first error of the file is reported.
      if (item.error) {
        pass_over(item, options);
        continue;
      }
      const EncodedDocument& encoded = item.encoded;
      if (encoded.text_bytes == 0) {
        if (options.read.on_empty_document) options.read.on_empty_document(item.document.where);
        continue;
      }
      ++report.documents[item.source];
      if (encoded.left_out) continue;
      if (encoded.ids.empty()) {
        ++report.without_tokens;
        continue;
      }
      ++report.written;
      const bool picked = options.valid != nullptr && is_picked(encoded.hash, options.valid_fraction);
      DatasetWriter& to = picked ? *options.valid : writer;
      append(encoded, item.domain, to);
      for (const EncodedDocument& other : encoded.others) append(other, item.domain, to);
    }
    items_.clear();
    bytes_ = 0;
  }

 private:
  struct Item {
    RawDocument document;
    size_t source;
    int32_t domain;
    EncodedDocument encoded = {};
    std::exception_ptr error = nullptr;
  };

  static void append(const EncodedDocument& encoded, int32_t domain, DatasetWriter& to) {
    if (encoded.marks.empty()) {
      to.add_document(encoded.ids, domain, encoded.text_bytes, encoded.scored_bytes);
    } else {
      to.add_marked(encoded.ids, encoded.marks, domain, encoded.text_bytes, encoded.scored_bytes);
    }
  }

  static void encode_item(Item& item, const BuildOptions& options) {
    try {
      item.encoded = options.encode(item.document);
    } catch (...) {
      item.error = std::current_exception();
    }
  }

  // Rethrows if nothing takes the error.
  static void pass_over(const Item& item, const BuildOptions& options) {
    try {
      std::rethrow_exception(item.error);
    } catch (const Error& error) {
      if (!options.read.on_bad_document) throw;
      const std::string_view what = error.what();
      const bool located = what.starts_with(item.document.where);
      options.read.on_bad_document(located ? std::string(what) : fmt::format("{}: {}", item.document.where, what));
    }
  }

  std::vector<Item> items_;
  size_t bytes_ = 0;
};

/// Three batches that take turns: while one is encoded, the previous one is written and the next one is read.
class Batches {
 public:
  Batches(DatasetWriter& writer, ThreadPool& pool, const BuildOptions& options, size_t sources)
      : writer_(writer), pool_(pool), options_(options), report_{.documents = std::vector<int64_t>(sources, 0)} {}

  Batch& reading() { return reading_; }
  /// True if a batch could not be written.
  bool failed() const { return failed_; }

  /// Begins to encode the documents that were read, and writes the previous batch.
  void flush() {
    wait();
    std::swap(encoding_, writing_);
    std::swap(reading_, encoding_);
    encoded_ = run_beside([this] { encoding_.encode(pool_, options_); });
    write(writing_);
  }
  /// Writes what is left.
  const BuildReport& drain() {
    flush();
    wait();
    write(encoding_);
    return report_;
  }

 private:
  void wait() {
    if (encoded_.valid()) encoded_.get();
  }
  void write(Batch& batch) {
    failed_ = true;
    batch.write(writer_, options_, report_);
    failed_ = false;
  }

  DatasetWriter& writer_;
  ThreadPool& pool_;
  const BuildOptions& options_;
  BuildReport report_;
  Batch reading_, encoding_, writing_;
  bool failed_ = false;
  std::future<void> encoded_;  // last member: its destructor waits for the thread that uses the others
};

// Pipes and standard input have no size and count as 0.
uint64_t bytes_of(const fs::path& path) { return path == kStandardInput ? 0 : file_bytes(path); }

}  // namespace

EncodeFunction encode_texts(TextToIds ids, std::string field, ScoredBytesFunction scored_bytes) {
  return [ids = std::move(ids), field = std::move(field),
          scored_bytes = std::move(scored_bytes)](const RawDocument& document) -> EncodedDocument {
    const std::string text = document.text(field);
    if (text.empty()) return {};
    EncodedDocument encoded{.ids = ids(text), .text_bytes = static_cast<int64_t>(text.size()), .hash = hash_name(text)};
    encoded.scored_bytes = scored_bytes ? scored_bytes(text, encoded.ids) : encoded.text_bytes;
    return encoded;
  };
}

BuildReport add_sources(DatasetWriter& writer, const std::vector<TextSource>& sources, ThreadPool& pool,
                        const BuildOptions& options) {
  BuildProgress progress{.info = &writer.info()};
  for (const TextSource& source : sources) {
    check_document_file(source.file);
    progress.bytes_in_all += bytes_of(source.file);
  }
  Batches batches(writer, pool, options, sources.size());
  const auto show = [&](uint64_t bytes_read) {
    progress.bytes_read = bytes_read;
    if (options.progress) options.progress(progress);
  };
  uint64_t read_before = 0, flushed = 0;
  // The first batches are small, because nothing is encoded while the first one is read.
  size_t enough = options.batch_bytes / 16;
  for (size_t i = 0; i < sources.size(); ++i) {
    progress.source = &sources[i];
    const int32_t domain = writer.add_domain(sources[i].domain);
    if (options.valid != nullptr) options.valid->add_domain(sources[i].domain);
    const auto add = [&](RawDocument document, uint64_t bytes_read) {
      batches.reading().add(std::move(document), i, domain);
      if (batches.reading().bytes() < enough) return;
      batches.flush();
      show(flushed);  // the written batch is the one before the batch that was read
      flushed = read_before + bytes_read;
      enough = std::min(2 * enough, options.batch_bytes);
    };
    try {
      for_each_raw_document(sources[i].file, add);
    } catch (...) {
      if (!batches.failed()) batches.drain();  // errors of earlier documents come first
      throw;
    }
    read_before += bytes_of(sources[i].file);
  }
  const BuildReport report = batches.drain();
  const auto documents = std::accumulate(report.documents.begin(), report.documents.end(), int64_t{0});
  if (documents == report.without_tokens) {
    fail("there is no document in {}{}; check how the files were made", sources.front().file.string(),
         sources.size() > 1 ? fmt::format(" nor in the {} after it", counted(sources.size() - 1, "file")) : "");
  }
  show(read_before);
  return report;
}

}  // namespace moe
