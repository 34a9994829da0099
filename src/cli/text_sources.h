#pragma once
/// The text files of a command line, their domains, and the handling of documents that cannot be read.

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "data/builder.h"

namespace moe {

struct TextSourceOptions {
  std::vector<std::string> files;
  std::vector<std::string> labelled;  ///< NAME=FILE
  std::string field = "text";
  std::string on_error = "stop";
};

/// The part about text files in the help of a command that reads text.
extern const char* const kTextSourcesHelp;

/// Declares --field and --on-error.
void add_document_options(CLI::App& command, TextSourceOptions& options);
/// The same with `FILE...`.
void add_text_options(CLI::App& command, TextSourceOptions& options);
/// The same with --domain, too.
void add_text_source_options(CLI::App& command, TextSourceOptions& options);

/// The files with their domains, first those without a label, in the given order. There is at least one; all exist and
/// are readable. Prints which files of a folder are ignored, and which are named more than once.
std::vector<TextSource> text_sources(const TextSourceOptions& options);

/// Documents that were skipped, or are empty. For one thread at a time.
class SkippedDocuments {
 public:
  explicit SkippedDocuments(const TextSourceOptions& options)
      : field_(options.field), skip_(options.on_error == "skip") {}
  /// Reports what was not reported yet: an error has ended the reading.
  ~SkippedDocuments();
  SkippedDocuments(const SkippedDocuments&) = delete;
  SkippedDocuments& operator=(const SkippedDocuments&) = delete;

  /// Reads the field of `options`. Errors come here under --on-error skip, and end the reading under stop. Places of
  /// empty documents come here always.
  ReadOptions read_options();
  /// Writes their number, and the errors of up to kMostListed, to standard error.
  void report();

 private:
  static constexpr size_t kMostListed = 1000;

  std::string field_;
  bool skip_;
  bool reported_ = false;
  int64_t count_ = 0, empty_ = 0;
  std::string first_empty_;
  std::vector<std::string> errors_;
};

}  // namespace moe
