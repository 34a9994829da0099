#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/text_sources.h"
#include "data/builder.h"
#include "data/shards.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Reads text and writes DIR: the documents' token ids in files that training maps into memory, each
document with its domain, and a copy of the tokenizer, so that training needs only DIR. Everything is
there or nothing is; an existing DIR is never touched.

A .jsonl file holds one document a line, in its field "text". A .txt file is one document; one above
1 MiB is cut at blank lines into pieces of at most that. Both may be compressed (.gz, .zst). The files
are streamed, so their size does not matter, and the result is the same for any number of threads.

A FILE's domain is its name without endings, or its folder's name where the file is called train, valid,
validation, test, dev or eval: text/code/train.jsonl.zst is "code". --domain NAME=FILE says otherwise.

Examples:
  moe data --tokenizer runs/tokenizer --out runs/data/train text/*/train.jsonl.zst
  moe data --tokenizer runs/tokenizer --out runs/data/mix --domain prose=books.txt --domain code=src.jsonl)";

constexpr double kSecondsBetweenLines = 10;

struct DataFlags {
  std::string tokenizer;
  std::string out;
  TextSourceOptions sources;
  int threads = 0;
};

/// Shows how far the reading is: a status line on a terminal, else a line now and then.
class ProgressReport {
 public:
  void operator()(const BuildProgress& progress) {
    const double seconds = seconds_since(start_);
    const double part = progress.bytes_in_all == 0
                            ? 0.0
                            : static_cast<double>(progress.bytes_read) / static_cast<double>(progress.bytes_in_all);
    const int64_t tokens = progress.info->tokens();
    const auto line = fmt::format("{:3.0f}%  {} documents  {:.1f} M tokens  {:.2f} M tokens/s  {}", 100 * part,
                                  progress.info->documents(), static_cast<double>(tokens) * 1e-6,
                                  static_cast<double>(tokens) * 1e-6 / seconds, progress.source->file.string());
    if (stderr_is_terminal()) return show_status(line);
    if (seconds - last_line_ < kSecondsBetweenLines) return;
    last_line_ = seconds;
    log_line(line);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  Clock::time_point start_ = Clock::now();
  double last_line_ = 0;
};

void print_row(std::string_view name, int64_t documents, int64_t tokens, int64_t bytes) {
  const double bytes_per_token = tokens == 0 ? 0.0 : static_cast<double>(bytes) / static_cast<double>(tokens);
  fmt::print("{:<20} {:>12} {:>16} {:>16} {:>14.2f}\n", name, documents, bytes, tokens, bytes_per_token);
}

void print_summary(const DatasetInfo& info) {
  fmt::print("{:<20} {:>12} {:>16} {:>16} {:>14}\n", "domain", "documents", "bytes", "tokens", "bytes/token");
  for (const DomainTotals& domain : info.domains) {
    print_row(domain.name, domain.documents, domain.tokens, domain.bytes);
  }
  print_row("all", info.documents(), info.tokens(), info.bytes());
}

void make_dataset(const DataFlags& flags) {
  const std::vector<TextSource> sources = text_sources(flags.sources);
  const Tokenizer tokenizer = Tokenizer::load(flags.tokenizer);
  DatasetWriter writer(flags.out, {.vocab_size = tokenizer.id_count(),
                                   .bos_id = tokenizer.bos().value_or(-1),
                                   .eos_id = tokenizer.eos().value_or(-1),
                                   .tokenizer_fingerprint = tokenizer_fingerprint(flags.tokenizer),
                                   .domains = {}});
  if (!tokenizer.eos()) {
    log_warning("the tokenizer names no end-of-sequence token, so a model trained on this data will not learn to stop");
  }
  tokenizer.save(writer.temporary_folder());
  ThreadPool pool(flags.threads);
  ProgressReport report;
  const auto encode = [&](std::string_view text) { return tokenizer.encode(text, {.add_special = false}); };
  add_sources(writer, sources, pool, {.encode = encode, .progress = std::ref(report)});
  writer.finish();
  clear_status();
  log_info("wrote {}", flags.out);
  print_summary(writer.info());
}

}  // namespace

void add_data_command(CLI::App& app) {
  auto flags = std::make_shared<DataFlags>();
  CLI::App* command = app.add_subcommand("data", "Turns text files into a dataset of token ids for training");
  command->footer(kHelp);
  command->add_option("--tokenizer", flags->tokenizer, "folder with tokenizer.json, or a tokenizer.json")
      ->required()
      ->type_name("DIR_OR_FILE");
  command->add_option("--out", flags->out, "folder to make")->required()->type_name("DIR");
  command->add_option("--threads", flags->threads, "0: one per processor")->capture_default_str();
  add_text_source_options(*command, flags->sources);
  command->callback([flags] { make_dataset(*flags); });
}

}  // namespace moe
