#include "cli/unknown_words.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "base/utf8.h"
#include "formats/toml.h"

namespace moe {
namespace {

struct Meaning {
  std::vector<std::string_view> words;
  const char* sentence;
};

/// Commands of other programs, and other words for our commands.
const std::vector<Meaning>& command_meanings() {
  static const std::vector<Meaning> meanings = {
      {{"run", "start"},
       "`moe train FILE` trains a model, `moe generate MODEL_DIR` writes text with one, `moe study run FILE` compares "
       "several"},
      {{"talk", "ask", "instruct", "converse", "conversation", "repl"}, "`moe chat MODEL_DIR` talks with a model"},
      {{"sample", "complete", "completion", "infer", "inference", "predict", "prompt", "write", "gen"},
       "`moe generate MODEL_DIR` continues a text"},
      {{"evaluate", "evaluation", "test", "validate", "score", "perplexity", "ppl", "bpb", "analyse", "analyze"},
       "`moe eval loss MODEL_DIR FILE` measures how well a model predicts text"},
      {{"tokenize", "tokenise"},
       "`moe tokenizer encode` turns text into token ids, `moe data` whole files into a dataset"},
      {{"detokenize", "detokenise"}, "`moe tokenizer decode` turns token ids into text"},
      {{"prepare", "preprocess", "prep", "dataset", "corpus", "pack", "shard"},
       "`moe data` turns text files into a dataset for training"},
      {{"pretrain", "fit", "learn"}, "`moe train FILE` trains a model from a run file"},
      {{"resume", "continue"}, "`moe train FILE --resume` goes on from the newest checkpoint"},
      {{"finetune", "fine-tune", "sft", "lora", "dpo", "esft", "adapter"},
       "`moe train FILE` with model.from in its file fine-tunes a model, also with adapters (LoRA) or on preferences "
       "(DPO); docs/finetuning.md says how"},
      {{"serve", "server", "api", "web"}, "there is no server; `moe generate MODEL_DIR` continues a text"},
      {{"benchmark", "speed", "time", "profile", "perf"}, "`moe bench` measures speed"},
      {{"flops", "params", "parameters", "memory", "size", "plan", "estimate", "info", "count"},
       "`moe cost` tells parameters, FLOPs and memory; `moe train FILE --dry-run` those of a run"},
      {{"difference", "diff", "versus", "vs"},
       "`moe compare A B FILE` tells the difference of two models on the same text"},
      {{"causal", "importance", "prune", "mask"},
       "`moe eval causal MODEL_DIR FILE` tells what the loss is without each expert; chat's /mask and --mask-experts "
       "forbid "
       "some"},
      {{"ablate", "ablation", "sweep", "experiment", "search"},
       "`moe study run FILE` trains systems side by side; `moe eval loss --sweep` compares switches of one model"},
      {{"export", "convert", "save", "quantize", "quantise", "upload"},
       "`moe convert MODEL OUT` writes a model in another type or format, such as a GGUF file (--quant quantizes it); "
       "every checkpoint is a Hugging Face model folder already"},
      {{"version"}, "`moe --version` prints it"},
      {{"commands", "list", "usage", "man"}, "`moe help` lists the commands"},
  };
  return meanings;
}

struct OptionMeaning {
  std::vector<std::string_view> words;
  std::vector<const char*> meant;  ///< the first of these that the command has is suggested
};

constexpr const char* kModel = "MODEL_DIR";
constexpr const char* kFile = "FILE";

const std::vector<OptionMeaning>& option_meanings() {
  static const std::vector<OptionMeaning> meanings = {
      {{"temp", "t"}, {"--temperature"}},
      {{"max-tokens", "max-length", "max-new", "num-tokens", "n-predict", "length", "n"},
       {"--max-new-tokens", "--sequence-length", "--length", "--tokens"}},
      {{"batch-size", "batch", "bs", "b"}, {"--batch-rows", "--rows", "--set data.rows_per_step=N"}},
      {{"seq-len", "seq-length", "sequence-len", "context", "context-length", "ctx", "ctx-size", "block-size",
        "max-seq-len", "max-length"},
       {"--sequence-length", "--length", "--set data.sequence_length=N"}},
      {{"lr", "learning-rate"}, {"--set optimizer.learning_rate=X"}},
      {{"steps", "iters", "iterations", "max-steps", "max-iters"}, {"--steps", "--set train.steps=N", "--repeats"}},
      {{"epochs"}, {"--set train.epochs=N"}},
      {{"output", "output-dir", "out-dir", "save", "save-dir", "o", "dest", "to"},
       {"--out", "--json", "--plots", "--set run.dir=DIR"}},
      {{"run-dir"}, {"--set run.dir=DIR"}},
      {{"out"}, {"--json", "--plots", "--set run.dir=DIR"}},
      {{"model", "model-dir", "checkpoint", "ckpt", "model-path", "m", "load", "pretrained"}, {kModel, "--config"}},
      {{"data", "input", "file", "files", "text", "text-file", "train", "valid", "i", "corpus", "dataset"},
       {"--prompt-file", "--tokens-file", kFile}},
      {{"config", "c", "run-file", "settings"}, {kFile, kModel}},
      {{"gpu", "cuda"}, {"--device cuda"}},
      {{"cpu"}, {"--device cpu"}},
      {{"bf16", "half", "fp16", "float16", "bfloat16"}, {"--dtype bf16"}},
      {{"precision", "type", "float"}, {"--dtype"}},
      {{"num-threads", "n-threads", "jobs", "j", "workers", "num-workers", "cores"}, {"--threads"}},
      {{"p", "text", "input"}, {"--prompt"}},
      {{"f", "file"}, {"--prompt-file"}},
      {{"silent", "q", "no-progress"}, {"--quiet"}},
      {{"penalty", "rep-penalty", "repeat-penalty", "frequency-penalty", "presence-penalty"}, {"--repetition-penalty"}},
      {{"stop-sequence", "stop-string", "until", "eos"}, {"--stop"}},
      {{"random-seed", "s"}, {"--seed"}},
      {{"nucleus"}, {"--top-p"}},
      {{"mask"}, {"--mask-experts"}},
      {{"boost", "bias-experts", "expert-bias"}, {"--boost-experts"}},
      {{"system-prompt", "sys"}, {"--system"}},
      {{"ctx", "ctx-size", "n-ctx", "c", "context-length", "max-context"}, {"--context"}},
      {{"k"}, {"--top-k", "--experts-per-token"}},
      {{"top-k", "experts", "active-experts", "num-experts-per-tok"}, {"--experts-per-token", "--experts"}},
      {{"vocab", "vocabulary", "vocabulary-size", "n-vocab"}, {"--vocab-size", "--vocabulary"}},
      {{"continue", "restart", "resume-from"}, {"--resume"}},
      {{"plan", "check", "estimate"}, {"--dry-run"}},
      {{"override", "option", "opt"}, {"--set KEY=VALUE"}},
      {{"analyze", "analysis"}, {"--analyse"}},
      {{"hidden-size", "dim", "d-model", "width"}, {"--hidden", "--set model.hidden_size=N"}},
      {{"num-layers", "n-layers", "depth"}, {"--layers", "--set model.num_hidden_layers=N"}},
      {{"tokenizer-dir", "tok", "tokenizer-path"}, {"--tokenizer"}},
  };
  return meanings;
}

/// Without leading dashes and a value at its end, with "-" for "_", in small letters.
std::string plain(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  std::string text(word.substr(0, word.find('=')));
  for (char& c : text) c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool holds(const std::vector<std::string_view>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool has_option(const CLI::App& command, std::string_view meant) {
  return command.get_option_no_throw(std::string(meant.substr(0, meant.find(' ')))) != nullptr;
}

/// A group's own commands come before those below them.
void collect_commands(const CLI::App& group, std::vector<const CLI::App*>& commands) {
  const auto below = group.get_subcommands([](const CLI::App*) { return true; });
  commands.insert(commands.end(), below.begin(), below.end());
  for (const CLI::App* command : below) collect_commands(*command, commands);
}

std::string listed(const CLI::App& group) {
  const bool root = group.get_parent() == nullptr;
  return fmt::format("`moe help{}` lists the commands", root ? "" : full_name(group).substr(3));
}

}  // namespace

std::string nearest_name(const std::string& word, const std::vector<std::string>& names) {
  std::string found;
  int best = std::max<int>(1, static_cast<int>(word.size()) / 3) + 1;
  for (const std::string& name : names) {
    const bool begins = word.size() >= 2 && name.starts_with(word);
    const int distance = begins ? 0 : edit_distance(word, name);
    if (distance < best) {
      best = distance;
      found = name;
    }
  }
  return found;
}

std::string full_name(const CLI::App& command) {
  if (command.get_parent() == nullptr) return command.get_name();
  return full_name(*command.get_parent()) + " " + command.get_name();
}

const CLI::App& chosen_command(const CLI::App& app) {
  const auto below = app.get_subcommands();
  return below.empty() ? app : chosen_command(*below.front());
}

std::string unknown_command(const CLI::App& group, const std::string& word) {
  const std::string start = fmt::format("there is no command `{} {}`", full_name(group), valid_utf8(word));
  const std::string name = plain(word);
  std::vector<const CLI::App*> below, all;
  collect_commands(group, below);
  const CLI::App* root = &group;
  while (root->get_parent() != nullptr) root = root->get_parent();
  collect_commands(*root, all);
  // First another word for it, then the right name in another place, then a mistyped name.
  for (const Meaning& meaning : command_meanings()) {
    if (holds(meaning.words, name)) return fmt::format("{}; {}", start, meaning.sentence);
  }
  for (const CLI::App* command : all) {
    if (command->get_name() == name) return fmt::format("{}; did you mean `{}`?", start, full_name(*command));
  }
  std::vector<std::string> names;
  for (const CLI::App* command : below) names.push_back(command->get_name());
  if (const std::string near = nearest_name(name, names); !near.empty()) {
    const auto found = std::find_if(below.begin(), below.end(), [&](const auto* c) { return c->get_name() == near; });
    return fmt::format("{}; did you mean `{}`?", start, full_name(**found));
  }
  return fmt::format("{}; {}", start, listed(group));
}

std::string unknown_option(const CLI::App& command, const std::string& word) {
  const std::string typed = word.substr(0, word.find('='));
  const std::string start = fmt::format("`{}` has no option {}", full_name(command), valid_utf8(typed));
  const std::string name = plain(word);
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& known : option->get_lnames()) names.push_back(known);
  }
  // The same name in another spelling is handled elsewhere.
  if (std::find(names.begin(), names.end(), name) != names.end())
    return fmt::format("{}; did you mean --{}?", start, name);
  for (const OptionMeaning& meaning : option_meanings()) {
    if (!holds(meaning.words, name)) continue;
    for (const std::string_view meant : meaning.meant) {
      if (!has_option(command, meant)) continue;
      if (meant.starts_with('-')) return fmt::format("{}; did you mean {}?", start, meant);
      return fmt::format("{}; {} is given by itself, without an option", start, meant);
    }
  }
  if (const std::string near = nearest_name(name, names); !near.empty()) {
    return fmt::format("{}; did you mean --{}?", start, near);
  }
  return fmt::format("{}; `{} --help` lists its options", start, full_name(command));
}

std::string unknown_argument(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining();
  const auto below = app.get_subcommands();
  if (left.empty()) return below.empty() ? "" : unknown_argument(*below.front());
  for (const std::string& word : left) {
    const bool number = word.size() > 1 && (std::isdigit(static_cast<unsigned char>(word[1])) != 0 || word[1] == '.');
    if (word.size() > 1 && word[0] == '-' && !number) return unknown_option(app, word);
  }
  if (!app.get_subcommands([](const CLI::App*) { return true; }).empty()) return unknown_command(app, left.front());
  return fmt::format("`{}` does not take {}; `{} --help` says what it takes", full_name(app), valid_utf8(left.front()),
                     full_name(app));
}

}  // namespace moe
