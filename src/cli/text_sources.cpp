#include "cli/text_sources.h"

#include <algorithm>
#include <map>
#include <sys/stat.h>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/printable.h"
#include "base/units.h"
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
and UTF-32 must be converted first; the error says how. Warnings name an empty file, a file that is named twice
(its documents count twice), and the number of documents whose text is empty.

A document that cannot be read stops the command, and the error names the file and line. --on-error skip
skips such documents, and lists them at the end. If a file is cut short or damaged (.gz, .zst), the whole
documents before the damage are kept, and the rest of the file is skipped.)";

namespace {

void say_left_out(const std::string& what, const SourceFiles& found) {
  if (found.left_out.empty()) return;
  std::string list;
  for (const auto& [ending, count] : found.left_out) {
    list += fmt::format("{}{} {}", list.empty() ? "" : ", ", count, ending);
  }
  log_warning("{}: hidden files and files of other kinds are ignored: {}", what, list);
}

void add_sources_of(const std::string& what, const std::string& domain, std::vector<TextSource>& sources) {
  const SourceFiles found = find_source_files(what);
  say_left_out(what, found);
  for (const fs::path& file : found.files) {
    const std::string own = found.domain.empty() ? domain_of(file) : found.domain;
    sources.push_back({.file = file, .domain = printable(domain.empty() ? own : domain)});
  }
}

/// A file may be named again by another path, by a link, or by a pattern and a folder.
void warn_of_repeated_files(const std::vector<TextSource>& sources) {
  std::map<std::pair<dev_t, ino_t>, const TextSource*> first;
  std::string named;
  int64_t repeated = 0;
  for (const TextSource& source : sources) {
    struct stat info {};
    if (source.file == kStandardInput || ::stat(source.file.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const auto [found, added] = first.try_emplace(std::pair(info.st_dev, info.st_ino), &source);
    if (added || repeated++ > 0) continue;
    const fs::path& before = found->second->file;
    named =
        source.file == before ? before.string() : fmt::format("{} (also as {})", before.string(), source.file.string());
  }
  if (repeated == 0) return;
  log_warning(
      "{} is named more than once{}, so its documents count more than once; name each file once if you do not "
      "want that",
      named, repeated > 1 ? fmt::format(", like {} other files", repeated - 1) : "");
}

}  // namespace

void add_document_options(CLI::App& command, TextSourceOptions& options) {
  command.add_option("--field", options.field, "the field of a JSON object that holds the text")
      ->capture_default_str()
      ->type_name("NAME");
  command.add_option("--on-error", options.on_error, "what to do with a document that cannot be read")
      ->check(CLI::IsMember({"stop", "skip"}))
      ->capture_default_str();
}

void add_text_options(CLI::App& command, TextSourceOptions& options) {
  add_document_options(command, options);
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
    const std::string name = text.substr(0, equals);
    if (valid_utf8(name) != name) {
      fail_usage("--domain {}: the name is not UTF-8, expected a name in UTF-8", printable(text));
    }
    if (printable(name) != name) {
      fail_usage("--domain {:?}: the name has a control character, such as a line end; choose another name", name);
    }
    add_sources_of(text.substr(equals + 1), name, sources);
  }
  if (sources.empty()) fail_usage("there is nothing to read: give at least one FILE");
  for (const TextSource& source : sources) check_document_file(source.file);
  const auto from_input = std::count_if(sources.begin(), sources.end(),
                                        [](const TextSource& source) { return source.file == kStandardInput; });
  if (from_input > 1) fail_usage("standard input (-) is named {} times, but can be read once", from_input);
  warn_of_repeated_files(sources);
  return sources;
}

ReadOptions SkippedDocuments::read_options() {
  ReadOptions options{.field = field_};
  options.on_empty_document = [this](const std::string& where) {
    if (empty_++ == 0) first_empty_ = where;
  };
  if (!skip_) return options;
  options.on_bad_document = [this](const std::string& error) {
    ++count_;
    if (errors_.size() < kMostListed) errors_.push_back(shortened(error));
  };
  return options;
}

SkippedDocuments::~SkippedDocuments() {
  try {
    if (!reported_) report();
  } catch (...) {  // the error that ended the reading is told instead
  }
}

void SkippedDocuments::report() {
  reported_ = true;
  if (count_ + empty_ > 0) clear_status();
  if (empty_ > 0)
    log_warning("{} left out; the first is {}",
                empty_ == 1 ? "1 document is empty and was" : fmt::format("{} documents are empty and were", empty_),
                first_empty_);
  if (count_ == 0) return;
  log_warning("{} could not be read and {} skipped:",
              counted(count_, "document or part of a file", "documents or parts of files"),
              count_ == 1 ? "was" : "were");
  for (const std::string& error : errors_) log_info("  {}", error);
  if (count_ > static_cast<int64_t>(errors_.size()))
    log_info("  and {} more", count_ - static_cast<int64_t>(errors_.size()));
}

}  // namespace moe
