#include "eval/text_documents.h"

#include <exception>

#include "base/error.h"
#include "base/log.h"
#include "data/reader.h"
#include "data/scored_text.h"

namespace moe {
namespace {

constexpr size_t kBatchBytes = size_t{8} << 20;

}  // namespace

std::vector<int32_t> document_ids(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids = tokenizer.encode(text, {.add_special = false});
  if (ids.empty()) return ids;
  if (tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  if (tokenizer.eos()) ids.push_back(*tokenizer.eos());
  return ids;
}

namespace {

struct Encoded {
  bool empty = false;  // no text, or none that the tokenizer keeps
  std::vector<int32_t> ids = {};
  int64_t scored_bytes = 0;
  std::exception_ptr error = nullptr;
};

Encoded encode(const RawDocument& raw, const Tokenizer& tokenizer, const std::string& field) {
  const std::string text = raw.text(field);
  if (text.empty()) return {.empty = true};
  std::vector<int32_t> ids = document_ids(tokenizer, text);
  if (ids.empty()) return {.empty = true};
  const size_t before = tokenizer.bos() ? 1 : 0, after = tokenizer.eos() ? 1 : 0;
  const int64_t bytes =
      scored_bytes(text, std::span<const int32_t>(ids).subspan(before, ids.size() - before - after), tokenizer);
  return {.empty = false, .ids = std::move(ids), .scored_bytes = bytes, .error = {}};
}

void rethrow_or_pass_over(const std::exception_ptr& error, const ReadOptions& options) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& bad) {
    if (!options.on_bad_document) throw;
    options.on_bad_document(bad.what());
  }
}

void add_encoded(std::vector<RawDocument>& waiting, const Tokenizer& tokenizer, ThreadPool& pool, int32_t domain,
                 const ReadOptions& options, MemoryDocuments& documents) {
  std::vector<Encoded> encoded(waiting.size());
  pool.parallel_for(static_cast<int64_t>(waiting.size()), [&](int64_t i, int) {
    const auto index = static_cast<size_t>(i);
    try {
      encoded[index] = encode(waiting[index], tokenizer, options.field);
    } catch (...) {
      encoded[index].error = std::current_exception();
    }
  });
  for (size_t i = 0; i < encoded.size(); ++i) {
    Encoded& document = encoded[i];
    // Errors wait for their turn, so that the first error of the file is reported.
    if (document.error) rethrow_or_pass_over(document.error, options);
    if (document.empty && options.on_empty_document) options.on_empty_document(waiting[i].where);
    if (!document.ids.empty()) documents.add(std::move(document.ids), domain, document.scored_bytes);
  }
  waiting.clear();
}

}  // namespace

MemoryDocuments load_documents(const std::vector<TextSource>& sources, const Tokenizer& tokenizer, ThreadPool& pool,
                               const ReadOptions& options) {
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
      add_encoded(waiting, tokenizer, pool, domain, options, documents);
      bytes = 0;
    });
    add_encoded(waiting, tokenizer, pool, domain, options, documents);
    if (documents.count() == before) log_warning("{} holds no document", source.file.string());
  }
  if (documents.count() == 0) fail("no document was read; check how the files were made");
  return documents;
}

MemoryDocuments load_first_documents(const fs::path& file, const Tokenizer& tokenizer, int64_t most_tokens) {
  struct Enough {};  // ends the reading
  MemoryDocuments documents;
  const int32_t domain = documents.add_domain(domain_of(file));
  int64_t left = most_tokens;
  check_document_file(file);
  try {
    for_each_raw_document(file, [&](const RawDocument& document, uint64_t) {
      Encoded encoded = encode(document, tokenizer, "text");
      if (encoded.ids.empty()) return;
      if (static_cast<int64_t>(encoded.ids.size()) > left) encoded.ids.resize(static_cast<size_t>(left));
      left -= static_cast<int64_t>(encoded.ids.size());
      documents.add(std::move(encoded.ids), domain, encoded.scored_bytes);
      if (left == 0) throw Enough();
    });
  } catch (const Enough&) {}
  if (documents.count() == 0) fail("{} holds no document with text", file.string());
  return documents;
}

}  // namespace moe
