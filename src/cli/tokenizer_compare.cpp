#include "cli/tokenizer_compare.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/paths.h"
#include "cli/model_folder.h"
#include "cli/text_sources.h"
#include "data/reader.h"
#include "formats/compression.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Encodes text with several tokenizers. Prints the bytes of text per token, for each domain (a file's name)
and for all text. With more bytes per token, a model reads fewer tokens for the same text. A folder with the
files of a tokenizer is a tokenizer, and so are the folder of a run, a GGUF file, a .model file, and a .json file
that begins with "{". Any other argument is text, as `moe data` reads it: a file, a folder or a pattern in quotes (--field, --on-error).

Example:
  moe tokenizer compare runs/tokenizer gpt2/ books.txt code.jsonl.zst)";

struct Flags {
  std::vector<std::string> arguments;
  TextSourceOptions sources;  // without its files
  bool json = false;
};

/// A list of documents begins with a bracket, a tokenizer.json with a brace.
bool begins_with_brace(const fs::path& file) {
  const auto stream = open_stream(file);
  char c = ' ';
  while (stream->read(&c, 1) == 1) {
    if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return c == '{';
  }
  return false;
}

bool names_tokenizer(const std::string& argument) {
  if (argument.ends_with(".model") || is_gguf(argument)) return true;
  if (is_folder(argument)) return has_tokenizer(argument) || has_tokenizer(model_folder(argument));
  if (!argument.ends_with(".json") || !path_exists(argument)) return false;
  check_readable(argument);
  return is_stream(argument) || begins_with_brace(argument);
}

struct Row {
  std::string domain;
  uint64_t bytes = 0;
  std::vector<uint64_t> tokens;  // by tokenizer

  Json bytes_per_token() const {
    Json all = Json::array();
    for (const uint64_t count : tokens) {
      all.push_back(count == 0 ? Json() : Json(static_cast<double>(bytes) / static_cast<double>(count)));
    }
    return all;
  }
};

void count_file(const fs::path& file, const std::vector<Tokenizer>& tokenizers, const ReadOptions& options, Row& row,
                Row& all) {
  std::vector<int32_t> ids;
  bool empty = true;
  const auto count = [&](std::string_view text, uint64_t) {
    empty = false;
    row.bytes += text.size();
    all.bytes += text.size();
    for (size_t i = 0; i < tokenizers.size(); ++i) {
      ids.clear();
      tokenizers[i].encode(text, {.add_special = false}, ids);
      row.tokens[i] += ids.size();
      all.tokens[i] += ids.size();
    }
  };
  for_each_document(file, count, options);
  if (empty) log_warning("{} holds no document", file.string());
}

void print_table(const std::vector<std::string>& names, const std::vector<Tokenizer>& tokenizers,
                 const std::vector<Row>& rows) {
  size_t width = 5;
  for (const Row& row : rows) width = std::max(width, row.domain.size());
  for (size_t i = 0; i < names.size(); ++i) {
    print_output("{:>3}  {} ({} tokens)\n", fmt::format("({})", i + 1), names[i], tokenizers[i].id_count());
  }
  print_output("\nbytes per token\n{:<{}}  {:>9}", "", width, "MB");
  for (size_t i = 0; i < names.size(); ++i) print_output("  {:>8}", fmt::format("({})", i + 1));
  print_output("\n");
  for (const Row& row : rows) {
    print_output("{:<{}}  {:>9.2f}", row.domain, width, 1e-6 * static_cast<double>(row.bytes));
    for (const Json& value : row.bytes_per_token()) {
      print_output("  {:>8}", value.is_null() ? std::string("-") : fmt::format("{:.3f}", value.get<double>()));
    }
    print_output("\n");
  }
}

void compare(const Flags& flags) {
  std::vector<std::string> names, files;
  for (const std::string& argument : flags.arguments) (names_tokenizer(argument) ? names : files).push_back(argument);
  if (names.empty()) fail_usage("no tokenizer is named: give a folder with tokenizer.json, or a file of that kind");
  if (files.empty()) fail_usage("no text is named: give .txt or .jsonl files after the tokenizers");
  TextSourceOptions options = flags.sources;
  options.files = files;
  const std::vector<TextSource> sources = text_sources(options);
  std::vector<Tokenizer> tokenizers;
  for (const std::string& name : names) {
    tokenizers.push_back(Tokenizer::load(is_folder(name) && !has_tokenizer(name) ? model_folder(name) : name));
  }
  const auto empty_row = [&](const std::string& domain) {
    return Row{.domain = domain, .tokens = std::vector<uint64_t>(names.size(), 0)};
  };
  std::vector<Row> rows;
  Row all = empty_row("all");
  SkippedDocuments skipped(options);
  for (const TextSource& source : sources) {
    show_status(fmt::format("encoding {}", source.file.string()));
    auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& each) { return each.domain == source.domain; });
    if (row == rows.end()) row = rows.insert(rows.end(), empty_row(source.domain));
    count_file(source.file, tokenizers, skipped.read_options(), *row, all);
  }
  clear_status();
  skipped.report();
  if (rows.size() > 1) rows.push_back(all);
  if (!flags.json) return print_table(names, tokenizers, rows);
  Json json = {{"tokenizers", Json::array()}, {"domains", Json::array()}};
  for (size_t i = 0; i < names.size(); ++i) {
    json["tokenizers"].push_back({{"path", names[i]}, {"tokens", tokenizers[i].id_count()}});
  }
  for (const Row& row : rows) {
    json["domains"].push_back({{"domain", row.domain},
                               {"bytes", row.bytes},
                               {"tokens", row.tokens},
                               {"bytes_per_token", row.bytes_per_token()}});
  }
  print_output("{}\n", json_text(json, 2));
}

}  // namespace

void add_tokenizer_compare_command(CLI::App& parent) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = parent.add_subcommand("compare", "Bytes per token of several tokenizers, by domain");
  command->footer(kHelp);
  command->add_flag("--json", flags->json, "one JSON object");
  add_document_options(*command, flags->sources);
  command->add_option("ARG", flags->arguments, "tokenizers, and the files with text")
      ->required()
      ->type_name("TOKENIZER... FILE...");
  command->callback([flags] { compare(*flags); });
}

}  // namespace moe
