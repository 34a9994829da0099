#include "measure/tokenizing.h"

#include <algorithm>
#include <numeric>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/trainer.h"

namespace moe {
namespace {

struct Text {
  std::vector<std::string> documents;
  size_t bytes = 0;
};

/// Reads documents of all files, up to about `limit` bytes: every n-th document, so that each file gives its share.
Text read_text(const std::vector<std::string>& files, size_t limit, const ReadOptions& read) {
  Text all;
  for (const std::string& file : files) {
    check_document_file(file);
    const size_t before = all.documents.size();
    const auto keep = [&](std::string_view text, uint64_t) {
      all.documents.emplace_back(text);
      all.bytes += text.size();
    };
    for_each_document(file, keep, read);
    if (all.documents.size() == before) log_warning("{} holds no document", file);
  }
  if (all.bytes == 0) fail("there is no text to encode in {}; name files that hold text", fmt::join(files, ", "));
  if (all.bytes <= limit) return all;
  Text some;
  const double share = static_cast<double>(limit) / static_cast<double>(all.bytes);
  double due = 0;
  for (std::string& document : all.documents) {
    if ((due += share) < 1) continue;
    due -= 1;
    some.bytes += document.size();
    some.documents.push_back(std::move(document));
  }
  return some;
}

struct EncodingTime {
  double seconds;
  double cpu_seconds;
  size_t tokens;
};

/// Encodes every document. Each thread writes the ids of its documents to the same memory.
EncodingTime time_encoding(const Tokenizer& tokenizer, const Text& text, ThreadPool& pool) {
  std::vector<size_t> counts(text.documents.size());
  std::vector<std::vector<int32_t>> ids(static_cast<size_t>(pool.size()));
  const double start = steady_seconds(), cpu_start = cpu_seconds();
  pool.parallel_for(static_cast<int64_t>(counts.size()), [&](int64_t i, int worker) {
    const auto index = static_cast<size_t>(i);
    auto& own = ids[static_cast<size_t>(worker)];
    own.clear();
    tokenizer.encode(text.documents[index], {.add_special = false}, own);
    counts[index] = own.size();
  });
  return {steady_seconds() - start, cpu_seconds() - cpu_start,
          std::accumulate(counts.begin(), counts.end(), size_t{0})};
}

}  // namespace

EncodingTimes measure_encoding(const std::string& tokenizer_folder, const std::vector<std::string>& files, size_t bytes,
                               int repeats, const ReadOptions& read, ThreadPool& pool) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_folder);
  const Text text = read_text(files, bytes, read);
  ThreadPool one_thread(1);
  EncodingTimes times{.documents = text.documents.size(), .bytes = text.bytes};
  for (int i = 0; i < repeats; ++i) {  // the two alternate, so that both see the same state of the machine
    const EncodingTime alone = time_encoding(tokenizer, text, one_thread);
    const EncodingTime together = time_encoding(tokenizer, text, pool);
    const auto keep_best = [&](double& best, double seconds) { best = i == 0 ? seconds : std::min(best, seconds); };
    keep_best(times.one_thread, alone.seconds);
    keep_best(times.one_thread_cpu, alone.cpu_seconds);
    keep_best(times.all_threads, together.seconds);
    times.tokens = alone.tokens;
  }
  return times;
}

VocabularyTimes measure_vocabulary(const std::vector<std::string>& files, int32_t vocab_size, const ReadOptions& read,
                                   ThreadPool& pool) {
  const double start = steady_seconds();
  TokenizerTrainer trainer({.vocab_size = vocab_size}, pool);
  for (const std::string& file : files) {
    check_document_file(file);
    for_each_document(
        file, [&](std::string_view text, uint64_t) { trainer.add_document(text); }, read);
  }
  const Tokenizer tokenizer = trainer.finish();
  return {.bytes = trainer.text_bytes(),
          .different_words = trainer.word_count(),
          .tokens = tokenizer.id_count(),
          .seconds = steady_seconds() - start};
}

}  // namespace moe
