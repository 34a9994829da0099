#include "eval/text_documents.h"

#include <exception>

#include "base/error.h"
#include "data/reader.h"

namespace moe {
namespace {

constexpr size_t kBatchBytes = size_t{8} << 20;

struct Encoded {
  std::vector<int32_t> ids;
  int64_t predicted_bytes = 0;
  std::exception_ptr error;
};

Encoded encode(const RawDocument& raw, const Tokenizer& tokenizer) {
  const std::string text = raw.text();
  if (text.empty()) return {};
  Encoded document;
  if (tokenizer.bos()) document.ids.push_back(*tokenizer.bos());
  tokenizer.encode(text, {.add_special = false}, document.ids);
  document.predicted_bytes = static_cast<int64_t>(text.size());
  if (!tokenizer.bos()) document.predicted_bytes -= static_cast<int64_t>(tokenizer.token_bytes(document.ids[0]).size());
  if (tokenizer.eos()) document.ids.push_back(*tokenizer.eos());
  return document;
}

void add_encoded(std::vector<RawDocument>& waiting, const Tokenizer& tokenizer, ThreadPool& pool, int32_t domain,
                 MemoryDocuments& documents) {
  std::vector<Encoded> encoded(waiting.size());
  pool.parallel_for(static_cast<int64_t>(waiting.size()), [&](int64_t i, int) {
    const auto index = static_cast<size_t>(i);
    try {
      encoded[index] = encode(waiting[index], tokenizer);
    } catch (...) {
      encoded[index].error = std::current_exception();
    }
  });
  for (Encoded& document : encoded) {
    // Errors wait for their turn, so that the one reported is the first of the file.
    if (document.error) std::rethrow_exception(document.error);
    if (!document.ids.empty()) documents.add(std::move(document.ids), domain, document.predicted_bytes);
  }
  waiting.clear();
}

}  // namespace

MemoryDocuments load_documents(const std::vector<TextSource>& sources, const Tokenizer& tokenizer, ThreadPool& pool) {
  MemoryDocuments documents;
  for (const TextSource& source : sources) check_document_file(source.file);
  for (const TextSource& source : sources) {
    const int32_t domain = documents.add_domain(source.domain);
    const int64_t before = documents.count();
    std::vector<RawDocument> waiting;
    size_t bytes = 0;
    for_each_raw_document(source.file, [&](RawDocument document, uint64_t) {
      bytes += document.bytes.size();
      waiting.push_back(std::move(document));
      if (bytes < kBatchBytes) return;
      add_encoded(waiting, tokenizer, pool, domain, documents);
      bytes = 0;
    });
    add_encoded(waiting, tokenizer, pool, domain, documents);
    if (documents.count() == before)
      fail("{} holds no document; leave it out or check how it was made", source.file.string());
  }
  return documents;
}

}  // namespace moe
