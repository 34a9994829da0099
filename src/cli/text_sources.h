#pragma once
/// The text files of a command line, the domain that each belongs to, and what happens to documents that cannot be
/// read.

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

/// What the help of a command that reads text says of it.
extern const char* const kTextSourcesHelp;

/// Declares `FILE...`, --field and --on-error.
void add_text_options(CLI::App& command, TextSourceOptions& options);
/// The same with --domain.
void add_text_source_options(CLI::App& command, TextSourceOptions& options);

/// The files with their domains: first the unlabelled ones, in the order given. At least one; all are there and
/// readable. Says which files of a folder are left out.
std::vector<TextSource> text_sources(const TextSourceOptions& options);

/// Documents that were passed over.
class SkippedDocuments {
 public:
  explicit SkippedDocuments(const TextSourceOptions& options) : skip_(options.on_error == "skip") {}

  /// Takes errors under --on-error skip; empty under stop.
  std::function<void(const std::string& error)> handler();
  /// Writes how many there were, and the errors of up to kMostListed, to standard error.
  void report() const;

 private:
  static constexpr size_t kMostListed = 1000;

  bool skip_;
  int64_t count_ = 0;
  std::vector<std::string> errors_;
};

}  // namespace moe
