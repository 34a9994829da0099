#include <memory>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "base/paths.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/data_chat.h"
#include "cli/data_inspect.h"
#include "cli/device_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/text_sources.h"
#include "data/builder.h"
#include "data/scored_text.h"
#include "data/shards.h"
#include "tokenizer/new_tokens.h"

namespace moe {
namespace {

const std::string kHelp =
    std::string(
        R"(Reads text and writes DIR. DIR has the token ids of the documents, in files that training maps into
memory, the domain of each document, and a copy of the tokenizer. So training needs only DIR. DIR is
complete or absent; an existing DIR is never changed. Files are streamed, so they may be of any size. The
result is the same for any number of threads.

)") +
    kTextSourcesHelp +
    R"(

The domain of a file is its name without endings. If the file is called train, valid, validation, test, dev
or eval, the domain is the name of its folder: text/code/train.jsonl.zst is "code". All files of a folder,
or of a pattern within one folder, have the folder's name as their domain. --domain NAME=FILE|DIR|PATTERN
gives another name.

--valid-fraction 0.01 writes two datasets, DIR/train and DIR/valid. A hash of each document's text chooses
about one in a hundred for validation. Every run chooses the same documents, and equal documents stay together.

)" + kChatDataHelp +
    R"(

Examples:
  moe data --tokenizer runs/tokenizer --out runs/data/train text/*/train.jsonl.zst
  moe data --tokenizer runs/tokenizer --out runs/data/mix --domain prose=books --domain 'code=src/**/*.py'
  moe data --tokenizer runs/tokenizer --out runs/data/mine --valid-fraction 0.01 my-texts
  zcat dump.jsonl.gz | moe data --tokenizer runs/tokenizer --out runs/data/dump --field content -
  moe data --chat --tokenizer deepseek-moe-16b-chat --out runs/data/sft --max-tokens 4096 --show 3 chats.jsonl
  moe data --preferences --tokenizer deepseek-moe-16b-chat --out runs/data/dpo --max-tokens 4096 pairs.jsonl
  moe data inspect runs/data/train --row 3)";

constexpr double kSecondsBetweenLines = 10;

struct DataFlags {
  std::string tokenizer;
  std::string out;
  TextSourceOptions sources;
  ChatDataFlags chat;
  double valid_fraction = 0;
  int threads = 0;
};

/// Shows the progress of reading: a status line on a terminal, otherwise a line from time to time.
class ProgressReport {
 public:
  void operator()(const BuildProgress& progress) {
    const double seconds = steady_seconds() - start_;
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
  double start_ = steady_seconds();
  double last_line_ = 0;
};

void print_row(std::string_view name, int64_t documents, int64_t tokens, int64_t bytes) {
  const double bytes_per_token = tokens == 0 ? 0.0 : static_cast<double>(bytes) / static_cast<double>(tokens);
  print_output("{:<20} {:>12} {:>16} {:>16} {:>14.2f}\n", name, documents, bytes, tokens, bytes_per_token);
}

void print_summary(const DatasetInfo& info) {
  print_output("{:<20} {:>12} {:>16} {:>16} {:>14}\n", "domain", "documents", "bytes", "tokens", "bytes/token");
  for (const DomainTotals& domain : info.domains) {
    print_row(domain.name, domain.documents, domain.tokens, domain.bytes);
  }
  print_row("all", info.documents(), info.tokens(), info.bytes());
}

/// The tokenizer of a dataset.
struct DataTokenizer {
  Tokenizer tokenizer;
  uint64_t fingerprint;
  uint64_t base_fingerprint = 0;  // of the one that has got new tokens
  int64_t base_ids = 0;
};

DataTokenizer load_tokenizer(const DataFlags& flags) {
  const uint64_t base = tokenizer_fingerprint(flags.tokenizer);
  if (flags.chat.new_tokens.empty()) return {Tokenizer::load(flags.tokenizer), base};
  const int64_t base_ids = Tokenizer::load(flags.tokenizer).id_count();
  GrownTokenizer grown = with_new_tokens(flags.tokenizer, flags.chat.new_tokens);
  return {std::move(grown.tokenizer), hash_name(grown.json), base, base_ids};
}

DatasetInfo empty_info(const DataFlags& flags, const DataTokenizer& with) {
  const Tokenizer& tokenizer = with.tokenizer;
  return {.vocab_size = tokenizer.id_count(),
          .bos_id = tokenizer.bos().value_or(-1),
          .eos_id = tokenizer.eos().value_or(-1),
          .tokenizer_fingerprint = with.fingerprint,
          .domains = {},
          .base_fingerprint = with.base_fingerprint,
          .base_ids = with.base_ids,
          .pairs = flags.chat.preferences};
}

void warn_of_empty_sources(const std::vector<TextSource>& sources, const BuildReport& report) {
  for (size_t i = 0; i < sources.size(); ++i) {
    if (report.documents[i] == 0) log_warning("{} holds no document", sources[i].file.string());
  }
  if (report.without_tokens > 0) {
    log_warning("{} gave no token, because the tokenizer drops all the text; skipped",
                counted(report.without_tokens, "document"));
  }
}

EncodeFunction text_encoder(const Tokenizer& tokenizer, const std::string& field) {
  return encode_texts(
      [&](std::string_view text) { return tokenizer.encode(text, {.add_special = false}); }, field,
      [&](std::string_view text, std::span<const int32_t> ids) { return scored_bytes(text, ids, tokenizer); });
}

/// All that a dataset is made from.
struct Work {
  Work(const DataFlags& given, const std::vector<TextSource>& files, const DataTokenizer& with)
      : flags(given), sources(files), tokenizer(with.tokenizer), info(empty_info(given, with)) {
    if (flags.chat.conversations()) chat.emplace(flags.chat, flags.tokenizer, tokenizer);
  }

  const DataFlags& flags;
  const std::vector<TextSource>& sources;
  const Tokenizer& tokenizer;
  const DatasetInfo info;
  std::optional<ChatData> chat;
};

void read_sources(const Work& work, DatasetWriter& writer, DatasetWriter* valid) {
  const DataFlags& flags = work.flags;
  ThreadPool pool(flags.threads);
  ProgressReport progress;
  SkippedDocuments skipped(flags.sources);
  const BuildReport report =
      add_sources(writer, work.sources, pool,
                  {.encode = work.chat ? work.chat->encoder() : text_encoder(work.tokenizer, flags.sources.field),
                   .valid = valid,
                   .valid_fraction = flags.valid_fraction,
                   .read = skipped.read_options(),
                   .progress = std::ref(progress)});
  clear_status();
  skipped.report();
  warn_of_empty_sources(work.sources, report);
  if (work.chat) work.chat->report(report);
}

void finish(DatasetWriter& writer, const Work& work) {
  work.tokenizer.save(writer.temporary_folder());
  if (work.chat) {
    work.chat->save_template(writer.temporary_folder());
    writer.set_answer_ends(work.chat->answer_ends());
  }
  writer.finish();
}

/// Says what was written, once it is in its place.
void report(const DatasetInfo& info, const std::string& name) {
  log_info("wrote {}", name);
  print_summary(info);
}

void make_one_dataset(const Work& work) {
  const DataFlags& flags = work.flags;
  DatasetWriter writer(flags.out, work.info);
  read_sources(work, writer, nullptr);
  finish(writer, work);
  report(writer.info(), flags.out);
  show_conversations(flags.out, flags.chat.show);
}

void make_two_datasets(const Work& work) {
  const DataFlags& flags = work.flags;
  FolderWriter folder(flags.out);
  if (path_exists(folder.target()) && !is_empty_folder(folder.target())) {
    fail("{} exists already; remove it or choose another folder", folder.target().string());
  }
  const auto name = [&](const char* part) { return (folder.target() / part).string(); };
  std::vector<std::pair<DatasetInfo, std::string>> written;
  {
    DatasetWriter train(folder.path() / "train", work.info);
    DatasetWriter valid(folder.path() / "valid", work.info);
    read_sources(work, train, &valid);
    for (const auto& [writer, part] : {std::pair(&train, "train"), std::pair(&valid, "valid")}) {
      if (writer->info().documents() > 0) {
        finish(*writer, work);
        written.emplace_back(writer->info(), name(part));
      } else {
        log_warning("{} is not written, because it would have no document; choose another --valid-fraction",
                    name(part));
      }
    }
  }
  folder.commit();
  for (const auto& [info, name_of_part] : written) report(info, name_of_part);
  show_conversations(written.front().second, flags.chat.show);
}

void make_dataset(const DataFlags& flags) {
  if (flags.tokenizer.empty()) fail_usage("--tokenizer is missing: name the folder of a tokenizer");
  check_chat_data_options(flags.chat);
  if (flags.chat.conversations() && flags.sources.field != TextSourceOptions{}.field) {
    fail_usage("--field {}: conversations have members of their own (docs/finetuning.md); leave the option out",
               flags.sources.field);
  }
  if (flags.out.empty()) fail_usage("--out is missing: name the folder to make");
  check_output_folder(flags.out);
  const std::vector<TextSource> sources = text_sources(flags.sources);
  const DataTokenizer tokenizer = load_tokenizer(flags);
  if (!tokenizer.tokenizer.eos() && !flags.chat.conversations()) {  // a chat template has ends of its own
    log_warning("the tokenizer names no end-of-sequence token, so a model trained on this data will not learn to stop");
  }
  const Work work(flags, sources, tokenizer);
  flags.valid_fraction > 0 ? make_two_datasets(work) : make_one_dataset(work);
}

}  // namespace

void add_data_command(CLI::App& app) {
  auto flags = std::make_shared<DataFlags>();
  CLI::App* command = app.add_subcommand("data", "Turns text files into a dataset of token ids for training");
  command->footer(kHelp);
  // Neither uses required() of CLI11, which would also require them for `inspect`.
  add_tokenizer_option(*command, flags->tokenizer, "folder with tokenizer.json, or a tokenizer.json (required)");
  command->add_option("--out", flags->out, "folder to make (required)")->type_name("DIR");
  add_number(
      *command, "--valid-fraction", flags->valid_fraction, {.least = 0, .most = 0.999999},
      "write DIR/train and DIR/valid, with about this fraction of the documents in DIR/valid; 0: write DIR only");
  add_threads_option(*command, flags->threads);
  add_text_source_options(*command, flags->sources);
  add_chat_data_options(*command, flags->chat);
  add_data_inspect_command(*command);
  command->callback([flags, command] {
    if (command->get_subcommands().empty()) make_dataset(*flags);
  });
}

}  // namespace moe
