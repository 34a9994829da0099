#include "cli/tokenizer_import.h"

#include <charconv>
#include <memory>

#include "base/error.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/printable.h"
#include "base/utf8.h"
#include "cli/exit_status.h"
#include "cli/tokenizer_output.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/tiktoken.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(FILE is a vocabulary in tiktoken's form: a token's bytes in base64 and its rank on each line. Such a file says neither
how text is cut into words nor which special tokens there are. So name the first (--words, or --expression with the
expression in the published code) and the others (--special). Writes tokenizer.json and tokenizer_config.json.

Examples:
  moe tokenizer import o200k_base.tiktoken --words gpt-4o --special '<|endoftext|>=199999' --eos '<|endoftext|>' --out tok
  moe tokenizer import qwen.tiktoken --words qwen2 --special '<|endoftext|>=151643' --out tok)";

struct ImportFlags {
  std::string file, words, expression, bos, eos, out;
  std::vector<std::string> special;
};

Json pre_tokenizer_of(const ImportFlags& flags) {
  if (flags.words.empty() == flags.expression.empty()) {
    fail_usage("give one of --words and --expression: how the vocabulary's program cuts text into words");
  }
  if (flags.words.empty()) {
    const std::string_view expressions[] = {flags.expression};
    return to_json(GgufPreTokenizer{.name = "", .expressions = expressions});
  }
  const GgufPreTokenizer* const found = find_gguf_pre_tokenizer(flags.words);
  if (found == nullptr) {
    fail_usage("--words {:?}: expected one of {}; or give the expression itself with --expression", flags.words,
               gguf_pre_tokenizer_names());
  }
  return to_json(*found);
}

std::vector<TiktokenSpecial> special_of(const ImportFlags& flags) {
  std::vector<TiktokenSpecial> special;
  for (const std::string& text : flags.special) {
    const size_t equals = text.rfind('=');
    int64_t id = -1;
    const char* const end = text.data() + text.size();
    if (equals == std::string::npos || equals == 0 || std::from_chars(text.data() + equals + 1, end, id).ptr != end ||
        equals + 1 == text.size()) {
      fail_usage("--special {:?}: expected TOKEN=ID, such as <|endoftext|>=50256", text);
    }
    const std::string token = text.substr(0, equals);
    if (valid_utf8(token) != token) {
      fail_usage("--special {}: the token is not UTF-8, expected a text in UTF-8", printable(text));
    }
    for (const TiktokenSpecial& before : special) {
      if (before.content != token) continue;
      fail_usage("--special {:?}: the token has the id {} already; give it one id", text, before.id);
    }
    special.push_back({token, id});
  }
  return special;
}

/// tokenizer_config.json: the tokens with a role, which must be special tokens.
std::string config_of(const ImportFlags& flags, const std::vector<TiktokenSpecial>& special) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  const auto add = [&](const char* flag, const char* key, const std::string& token) {
    if (token.empty()) return;
    const bool known =
        std::any_of(special.begin(), special.end(), [&](const auto& one) { return one.content == token; });
    if (!known) fail_usage("{} {:?}: expected a token that --special names", flag, token);
    config[key] = token;
  };
  add("--bos", "bos_token", flags.bos);
  add("--eos", "eos_token", flags.eos);
  config["add_bos_token"] = !flags.bos.empty();
  return json_text(config, 2) + "\n";
}

void import_vocabulary(const ImportFlags& flags) {
  const Json pre_tokenizer = pre_tokenizer_of(flags);
  const std::vector<TiktokenSpecial> special = special_of(flags);
  const std::string config = config_of(flags, special);
  check_tokenizer_output(flags.out);
  std::string json = tiktoken_tokenizer_json(read_file(flags.file), flags.file, pre_tokenizer, special);
  const Tokenizer tokenizer(parse_tokenizer_files(std::move(json), {.config = config}, flags.file));
  make_folder(flags.out);
  tokenizer.save(flags.out);
  log_info("{}: {} tokens, {} of them special", flags.out, tokenizer.id_count(), special.size());
}

}  // namespace

void add_tokenizer_import_command(CLI::App& parent) {
  auto flags = std::make_shared<ImportFlags>();
  CLI::App* command = parent.add_subcommand("import", "Makes a tokenizer of a tiktoken vocabulary");
  command->footer(kHelp);
  command->add_option("FILE", flags->file, "the vocabulary, NAME.tiktoken")->required();
  command->add_option("--words", flags->words, "a known way of cutting text into words: " + gguf_pre_tokenizer_names())
      ->type_name("NAME");
  command->add_option("--expression", flags->expression, "the expression whose matches are the words")
      ->type_name("REGEX");
  command->add_option("--special", flags->special, "a special token and its id; may be repeated")
      ->allow_extra_args(false)
      ->type_name("TOKEN=ID");
  command->add_option("--bos", flags->bos, "the special token that begins every text")->type_name("TOKEN");
  command->add_option("--eos", flags->eos, "the special token that ends a text")->type_name("TOKEN");
  command->add_option("--out", flags->out, "folder for the files (made if absent)")->required()->type_name("DIR");
  command->callback([flags] { import_vocabulary(*flags); });
}

}  // namespace moe
