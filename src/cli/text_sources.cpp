#include "cli/text_sources.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/utf8.h"
#include "data/reader.h"
#include "data/source_files.h"

namespace moe {

const char* const kTextSourcesHelp =
    R"(FILE may be a file, a folder (all readable files below it), a pattern in quotes ('text/**/*.jsonl'), or -
for standard input. Standard input is read as JSON lines if it begins with "{", else as one text. A .jsonl file
holds one document per line, in the field "text" (--field names another one). A .json file is a list of such
objects or of strings. A .txt, .md or source file is one document; above 1 MiB it is cut at blank lines into
pieces of at most 1 MiB. Every file may be compressed (.gz, .zst), and may be in UTF-8 or UTF-16. Parquet files
must be converted first; the error says how. An empty file gives a warning.

A document that cannot be read stops the command, and the error names the file and line. --on-error skip
skips such documents, and lists them at the end.)";

namespace {

void say_left_out(const std::string& what, const SourceFiles& found) {
  if (found.left_out.empty()) return;
  std::string list;
  for (const auto& [ending, count] : found.left_out) {
    list += fmt::format("{}{} {}", list.empty() ? "" : ", ", count, ending);
  }
  log_warning("{}: files of other kinds are ignored: {}", what, list);
}

void add_sources_of(const std::string& what, const std::string& domain, std::vector<TextSource>& sources) {
  const SourceFiles found = find_source_files(what);
  say_left_out(what, found);
  for (const fs::path& file : found.files) {
    const std::string own = found.domain.empty() ? domain_of(file) : found.domain;
    sources.push_back({.file = file, .domain = valid_utf8(domain.empty() ? own : domain)});
  }
}

}  // namespace

void add_text_options(CLI::App& command, TextSourceOptions& options) {
  command.add_option("--field", options.field, "the field of a JSON object that holds the text")
      ->capture_default_str()
      ->type_name("NAME");
  command.add_option("--on-error", options.on_error, "what to do with a document that cannot be read")
      ->check(CLI::IsMember({"stop", "skip"}))
      ->capture_default_str();
  command.add_option("FILE", options.files, "files, folders or patterns of text, or - (see below)")->type_name("");
}

void add_text_source_options(CLI::App& command, TextSourceOptions& options) {
  command.add_option("--domain", options.labelled, "files, and the domain that they belong to; may be repeated")
      ->type_name("NAME=FILE|DIR|PATTERN")
      ->allow_extra_args(false);
  add_text_options(command, options);
}

std::vector<TextSource> text_sources(const TextSourceOptions& options) {
  std::vector<TextSource> sources;
  for (const std::string& file : options.files) add_sources_of(file, "", sources);
  for (const std::string& text : options.labelled) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size()) {
      fail_usage("--domain {}: expected NAME=FILE, for instance --domain code=sources.jsonl", text);
    }
    add_sources_of(text.substr(equals + 1), text.substr(0, equals), sources);
  }
  if (sources.empty()) fail_usage("there is nothing to read: give at least one FILE");
  for (const TextSource& source : sources) check_document_file(source.file);
  const auto from_input = std::count_if(sources.begin(), sources.end(),
                                        [](const TextSource& source) { return source.file == kStandardInput; });
  if (from_input > 1) fail_usage("standard input (-) is named {} times, but can be read once", from_input);
  return sources;
}

std::function<void(const std::string& error)> SkippedDocuments::handler() {
  if (!skip_) return {};
  return [this](const std::string& error) {
    ++count_;
    if (errors_.size() < kMostListed) errors_.push_back(error);
  };
}

SkippedDocuments::~SkippedDocuments() {
  try {
    if (!reported_) report();
  } catch (...) {  // the error that ended the reading is told instead
  }
}

void SkippedDocuments::report() {
  reported_ = true;
  if (count_ == 0) return;
  clear_status();
  log_warning("{} documents could not be read and were skipped:", count_);
  for (const std::string& error : errors_) log_info("  {}", error);
  if (count_ > static_cast<int64_t>(errors_.size()))
    log_info("  and {} more", count_ - static_cast<int64_t>(errors_.size()));
}

}  // namespace moe
