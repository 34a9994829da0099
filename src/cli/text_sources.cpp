#include "cli/text_sources.h"

#include "base/error.h"
#include "data/reader.h"

namespace moe {

void add_text_source_options(CLI::App& command, TextSourceOptions& options) {
  command.add_option("--domain", options.labelled, "a file and the domain it belongs to; may be repeated")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  command.add_option("FILE", options.files, "text files: .txt or .jsonl, plain, .gz or .zst")->type_name("");
}

std::vector<TextSource> text_sources(const TextSourceOptions& options) {
  std::vector<TextSource> sources;
  for (const std::string& file : options.files) sources.push_back({.file = file, .domain = domain_of(file)});
  for (const std::string& text : options.labelled) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size()) {
      fail_usage("--domain {}: expected NAME=FILE, for instance --domain code=sources.jsonl", text);
    }
    sources.push_back({.file = text.substr(equals + 1), .domain = text.substr(0, equals)});
  }
  if (sources.empty()) fail_usage("there is nothing to read: give at least one FILE or --domain NAME=FILE");
  return sources;
}

}  // namespace moe
