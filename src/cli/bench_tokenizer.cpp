#include "cli/bench_tokenizer.h"

#include "base/error.h"
#include "base/free_memory.h"
#include "base/output.h"
#include "base/units.h"
#include "formats/json.h"
#include "measure/tokenizing.h"

namespace moe {
namespace {

Json encoding_json(const TokenizerBenchFlags& flags, ThreadPool& pool) {
  SkippedDocuments skipped(flags.sources);
  const EncodingTimes times = measure_encoding(flags.tokenizer, flags.files, static_cast<size_t>(flags.mib) << 20,
                                               flags.repeats, skipped.read_options(), pool);
  const auto rate = [&](double seconds) { return 1e-6 * static_cast<double>(times.bytes) / seconds; };
  return {{"documents", times.documents},
          {"bytes", times.bytes},
          {"tokens", times.tokens},
          {"mb_per_s_one_thread", rate(times.one_thread)},
          {"mb_per_cpu_s_one_thread", rate(times.one_thread_cpu)},
          {"mb_per_s", rate(times.all_threads)}};
}

Json training_json(const TokenizerBenchFlags& flags, ThreadPool& pool) {
  SkippedDocuments skipped(flags.sources);
  const VocabularyTimes times = measure_vocabulary(flags.files, flags.vocab_size, skipped.read_options(), pool);
  return {{"bytes", times.bytes},
          {"different_words", times.different_words},
          {"tokens", times.tokens},
          {"seconds", times.seconds},
          {"peak_rss_gib", gib(peak_resident_bytes())}};
}

void print(const Json& j) {
  if (const Json& t = j.at("training"); !t.is_null()) {
    print_output("training {} tokens on {:.1f} MB: {:.2f} s, {:.2f} GiB at the peak, {}\n",
                 t.at("tokens").get<int64_t>(), 1e-6 * t.at("bytes").get<double>(), t.at("seconds").get<double>(),
                 t.at("peak_rss_gib").get<double>(), counted(j.at("threads").get<int>(), "thread"));
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
  if (flags.vocab_size != 0) json["training"] = training_json(flags, pool);
  if (!flags.tokenizer.empty()) json["encoding"] = encoding_json(flags, pool);
  if (flags.json) {
    print_output("{}\n", json_text(json, 2));
  } else {
    print(json);
  }
}

}  // namespace moe
