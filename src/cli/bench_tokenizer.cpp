#include "cli/bench_tokenizer.h"

#include <algorithm>
#include <ctime>
#include <numeric>

#include "base/error.h"
#include "base/output.h"
#include "cli/bench_machine.h"
#include "data/reader.h"
#include "formats/json.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/trainer.h"

namespace moe {
namespace {

struct Text {
  std::vector<std::string> documents;
  size_t bytes = 0;
};

/// Reads documents of all files, up to about `limit` bytes: every n-th document, so that each file gives its share.
Text read_text(const std::vector<std::string>& files, size_t limit) {
  Text all;
  for (const std::string& file : files) {
    check_document_file(file);
    for_each_document(file, [&](std::string_view text, uint64_t) {
      all.documents.emplace_back(text);
      all.bytes += text.size();
    });
  }
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

/// Processor time of the whole process. Other programs on the machine do not count.
double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
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
  const double start = wall_seconds(), cpu_start = cpu_seconds();
  pool.parallel_for(static_cast<int64_t>(counts.size()), [&](int64_t i, int worker) {
    const auto index = static_cast<size_t>(i);
    auto& own = ids[static_cast<size_t>(worker)];
    own.clear();
    tokenizer.encode(text.documents[index], {.add_special = false}, own);
    counts[index] = own.size();
  });
  return {wall_seconds() - start, cpu_seconds() - cpu_start, std::accumulate(counts.begin(), counts.end(), size_t{0})};
}

Json measure_encoding(const TokenizerBenchFlags& flags, ThreadPool& pool) {
  const Tokenizer tokenizer = Tokenizer::load(flags.tokenizer);
  const Text text = read_text(flags.files, static_cast<size_t>(flags.mib) << 20);
  ThreadPool one_thread(1);
  double one = 0, one_cpu = 0, all = 0;
  size_t tokens = 0;
  for (int i = 0; i < flags.repeats; ++i) {  // the two alternate, so that both see the same state of the machine
    const EncodingTime alone = time_encoding(tokenizer, text, one_thread);
    const EncodingTime together = time_encoding(tokenizer, text, pool);
    one = i == 0 ? alone.seconds : std::min(one, alone.seconds);
    one_cpu = i == 0 ? alone.cpu_seconds : std::min(one_cpu, alone.cpu_seconds);
    all = i == 0 ? together.seconds : std::min(all, together.seconds);
    tokens = alone.tokens;
  }
  const auto rate = [&](double seconds) { return 1e-6 * static_cast<double>(text.bytes) / seconds; };
  return {{"documents", text.documents.size()},
          {"bytes", text.bytes},
          {"tokens", tokens},
          {"mb_per_s_one_thread", rate(one)},
          {"mb_per_cpu_s_one_thread", rate(one_cpu)},
          {"mb_per_s", rate(all)}};
}

/// Reads the files as training does, so reading and decompression count.
Json measure_training(const TokenizerBenchFlags& flags, ThreadPool& pool) {
  const double start = wall_seconds();
  TokenizerTrainer trainer({.vocab_size = flags.vocab_size}, pool);
  for (const std::string& file : flags.files) {
    check_document_file(file);
    for_each_document(file, [&](std::string_view text, uint64_t) { trainer.add_document(text); });
  }
  const Tokenizer tokenizer = trainer.finish();
  return {{"bytes", trainer.text_bytes()},
          {"different_words", trainer.word_count()},
          {"tokens", tokenizer.id_count()},
          {"seconds", wall_seconds() - start},
          {"peak_rss_gib", static_cast<double>(peak_rss_bytes()) / 1073741824.0}};
}

void print(const Json& j) {
  if (const Json& t = j.at("training"); !t.is_null()) {
    print_output("training {} tokens on {:.1f} MB: {:.2f} s, {:.2f} GiB at the peak, {} threads\n",
                 t.at("tokens").get<int64_t>(), 1e-6 * t.at("bytes").get<double>(), t.at("seconds").get<double>(),
                 t.at("peak_rss_gib").get<double>(), j.at("threads").get<int>());
  }
  if (const Json& e = j.at("encoding"); !e.is_null()) {
    print_output(
        "encoding {} documents of {:.1f} MB: {:.1f} MB/s on one thread ({:.1f} by its CPU time), {:.1f} MB/s on {}; {} "
        "tokens\n",
        e.at("documents").get<int64_t>(), 1e-6 * e.at("bytes").get<double>(), e.at("mb_per_s_one_thread").get<double>(),
        e.at("mb_per_cpu_s_one_thread").get<double>(), e.at("mb_per_s").get<double>(), j.at("threads").get<int>(),
        e.at("tokens").get<int64_t>());
  }
}

}  // namespace

void bench_tokenizer(const TokenizerBenchFlags& flags) {
  if (flags.tokenizer.empty() && flags.vocab_size == 0) {
    fail_usage("give --tokenizer to measure encoding, --vocab-size to measure training, or both");
  }
  ThreadPool pool(flags.threads);
  Json json = {{"threads", pool.size()}, {"training", nullptr}, {"encoding", nullptr}};
  // Training first, so that the peak of memory is that of training.
  if (flags.vocab_size != 0) json["training"] = measure_training(flags, pool);
  if (!flags.tokenizer.empty()) json["encoding"] = measure_encoding(flags, pool);
  if (flags.json) {
    print_output("{}\n", json_text(json, 2));
  } else {
    print(json);
  }
}

}  // namespace moe
