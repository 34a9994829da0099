#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "base/paths.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "cli/apply_template.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/standard_input.h"
#include "cli/text_sources.h"
#include "cli/token_ids.h"
#include "cli/tokenizer_compare.h"
#include "cli/tokenizer_import.h"
#include "cli/tokenizer_output.h"
#include "data/reader.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/trainer.h"

namespace moe {
namespace {

constexpr const char* kTrainHelp =
    R"(Reads text as `moe data` does (moe data --help lists the kinds of files), and writes tokenizer.json and
tokenizer_config.json, which Hugging Face's libraries read too. The same texts give the same
tokenizer, in any order and for any number of threads. If there is more text than --max-bytes, it
counts the words of a sample from all files; the same texts give the same sample.

Example:
  moe tokenizer train --vocab-size 8192 --out runs/tokenizer books.txt code.jsonl.zst)";

constexpr const char* kEncodeHelp =
    R"(Reads text (any bytes) from standard input and writes its token ids to standard output, separated by
blanks. BOS and EOS are added as the tokenizer's files say.

Example:
  printf 'Hello, world!' | moe tokenizer encode --tokenizer runs/tokenizer)";

constexpr const char* kDecodeHelp =
    R"(Reads token ids from standard input, separated by blanks, commas, brackets or line ends, and writes
their bytes to standard output. Nothing is added.

Example:
  echo '44 5 912' | moe tokenizer decode --tokenizer runs/tokenizer)";

constexpr const char* kTokenizer =
    "folder with tokenizer.json, vocab.json and merges.txt, or tokenizer.model; or a tokenizer.json or .model";

// Chinese text needs about 12 bytes of memory for each byte.
constexpr uint64_t kDefaultMaxBytes = 100'000'000;

struct TrainFlags {
  TrainerOptions trainer{.max_bytes = kDefaultMaxBytes};
  std::string out;
  TextSourceOptions sources;
  int threads = 0;
};

void train(const TrainFlags& flags) {
  check_tokenizer_output(flags.out);
  const std::vector<TextSource> sources = text_sources(flags.sources);
  ThreadPool pool(flags.threads);
  TokenizerTrainer trainer(flags.trainer, pool);
  SkippedDocuments skipped(flags.sources);
  const ReadOptions options = skipped.read_options();
  for (const TextSource& source : sources) {
    show_status(fmt::format("counting words of {}", source.file.string()));
    int64_t documents = 0;
    const auto add = [&](std::string_view text, uint64_t) {
      trainer.add_document(text);
      ++documents;
    };
    for_each_document(source.file, add, options);
    if (documents == 0) log_warning("{} holds no document", source.file.string());
  }
  skipped.report();
  if (trainer.text_bytes() == 0) {
    clear_status();
    fail("there is no text in {}{}, so no tokenizer can be trained; check how the files were made",
         sources.front().file.string(),
         sources.size() > 1 ? fmt::format(" nor in the {} after it", counted(sources.size() - 1, "file")) : "");
  }
  show_status("merging");
  const Tokenizer tokenizer = trainer.finish();
  clear_status();
  if (trainer.counted_bytes() < trainer.text_bytes()) {
    log_info("the words of a sample of {:.1f} MB out of {:.1f} MB were counted (--max-bytes {}; 0 counts all)",
             1e-6 * static_cast<double>(trainer.counted_bytes()), 1e-6 * static_cast<double>(trainer.text_bytes()),
             flags.trainer.max_bytes);
  }
  make_folder(flags.out);
  tokenizer.save(flags.out);
  log_info("{}: {} tokens ({} bytes of text, {} different words)", flags.out, tokenizer.id_count(),
           trainer.text_bytes(), trainer.word_count());
  if (tokenizer.id_count() < flags.trainer.vocab_size) {
    log_warning("no other pair of tokens occurs twice in the text, so the vocabulary has fewer than {} tokens",
                flags.trainer.vocab_size);
  }
}

struct EncodeFlags {
  std::string tokenizer;
  EncodeOptions options;
  bool no_special = false;
  bool lines = false;
};

void warn_of_second_bos(const Tokenizer& tokenizer, const EncodeFlags& flags, const std::vector<int32_t>& ids) {
  const bool doubled = flags.options.add_special && tokenizer.adds_bos() && ids.size() > 1 && ids[1] == ids[0] &&
                       ids[0] == tokenizer.bos();
  if (doubled)
    log_warning("the text begins with BOS, and the tokenizer adds another BOS before it; --no-special adds none");
}

void encode(EncodeFlags flags) {
  flags.options.add_special = !flags.no_special;
  const Tokenizer tokenizer = Tokenizer::load(flags.tokenizer);
  const std::string text = read_standard_input();
  std::vector<int32_t> ids;
  std::string out;
  if (!flags.lines) {
    tokenizer.encode(text, flags.options, ids);
    warn_of_second_bos(tokenizer, flags, ids);
    return write_output(fmt::format("{}\n", fmt::join(ids, " ")));
  }
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    ids.clear();
    tokenizer.encode(rest.substr(0, end), flags.options, ids);
    warn_of_second_bos(tokenizer, flags, ids);
    out += fmt::format("[{}]\n", fmt::join(ids, ", "));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  write_output(out);
}

void add_train(CLI::App& parent) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* command = parent.add_subcommand("train", "Trains a byte-level BPE tokenizer on text files");
  command->footer(kTrainHelp);
  add_number(*command, "--vocab-size", flags->trainer.vocab_size, {kLeastVocabulary, kMostVocabulary},
             "number of tokens, including 256 bytes and 19 special tokens");
  command
      ->add_option("--pattern", flags->trainer.pattern,
                   "the expression that first cuts text into words: moe, or qwen2 (which llama.cpp supports)")
      ->check(CLI::IsMember({"moe", "qwen2"}))
      ->capture_default_str();
  add_number(*command, "--max-bytes", flags->trainer.max_bytes, {.least = 0},
             "count the words of at most this much text; if there is more, of a sample from all files; 0: no limit");
  command->add_option("--out", flags->out, "folder for the files (made if absent)")->required()->type_name("DIR");
  add_threads_option(*command, flags->threads);
  add_text_options(*command, flags->sources);
  command->callback([flags] { train(*flags); });
}

void add_encode(CLI::App& parent) {
  auto flags = std::make_shared<EncodeFlags>();
  CLI::App* command = parent.add_subcommand("encode", "Turns text into token ids");
  command->footer(kEncodeHelp);
  add_tokenizer_option(*command, flags->tokenizer, kTokenizer)->required();
  command->add_flag("--no-special", flags->no_special, "add neither BOS nor EOS");
  command->add_flag("--parse-special", flags->options.parse_special,
                    "special tokens in the text become their ids (default: they are ordinary text)");
  command->add_flag("--lines", flags->lines,
                    "encode each line by itself (lines end with LF only): one JSON array per line");
  command->callback([flags] { encode(*flags); });
}

void add_decode(CLI::App& parent) {
  struct DecodeFlags {
    std::string tokenizer;
    DecodeOptions options;
  };
  auto flags = std::make_shared<DecodeFlags>();
  CLI::App* command = parent.add_subcommand("decode", "Turns token ids into text");
  command->footer(kDecodeHelp);
  add_tokenizer_option(*command, flags->tokenizer, kTokenizer)->required();
  command->add_flag("--special", flags->options.keep_special, "write special tokens too (default: they are left out)");
  command->callback([flags] {
    const Tokenizer tokenizer = Tokenizer::load(flags->tokenizer);
    write_output(tokenizer.decode(parse_token_ids(read_standard_input(), "standard input"), flags->options));
  });
}

}  // namespace

void add_tokenizer_commands(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenizer", "Trains tokenizers, turns text into token ids and back");
  command->require_subcommand(1);
  add_train(*command);
  add_encode(*command);
  add_decode(*command);
  add_apply_template_command(*command);
  add_tokenizer_compare_command(*command);
  add_tokenizer_import_command(*command);
}

}  // namespace moe
