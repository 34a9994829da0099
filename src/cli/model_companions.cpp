// What goes with a model's weights from one format to another: tokenizer, chat template, generation settings.

#include "base/error.h"
#include "base/log.h"
#include "base/paths.h"
#include "cli/model_folder.h"
#include "cli/model_writing.h"
#include "formats/gguf.h"
#include "template/chat_template.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/gguf_tokenizer_entries.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {
namespace {

constexpr const char* kTokenizerFiles[] = {
    "tokenizer.json",    "tokenizer_config.json",   "tokenizer.model",     "vocab.json",        "merges.txt",
    "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"};

void add_files_of_folder(const fs::path& folder, bool with_tokenizer, Companions& companions) {
  const auto add = [&](const char* name) {
    std::error_code ignored;
    if (fs::is_regular_file(folder / name, ignored)) companions.files.emplace_back(name, read_file(folder / name));
  };
  add("generation_config.json");
  if (!with_tokenizer) return;
  for (const char* name : kTokenizerFiles) add(name);
  const fs::path more = jinja::kMoreTemplates;
  if (!is_folder(folder / more)) return;
  for (const fs::path& path : folder_entries(folder / more)) {
    if (path.extension() == ".jinja") add((more / path.filename()).c_str());
  }
}

/// A tokenizer that this program does not read stays behind; the weights are of use without it.
void add_files_of_gguf(const fs::path& path, Companions& companions) {
  const GgufFile file(path);
  if (!has_gguf_tokenizer(file)) return;
  try {
    companions.files = load_gguf_tokenizer(path).contents;
  } catch (const Error& error) {
    log_warning("no tokenizer is written: {}", error.what());
  }
}

void add_entries_of_gguf(const fs::path& path, Companions& companions) {
  const GgufFile file(path);
  for (const GgufEntry& entry : file.metadata()) {
    if (entry.key.starts_with("tokenizer.")) companions.entries.push_back(entry);
  }
}

void add_entries_of_folder(const fs::path& folder, int64_t rows, Companions& companions) {
  if (!has_tokenizer(folder)) return;
  companions.entries = gguf_tokenizer_entries(folder, rows);
  const std::string key = "tokenizer.chat_template";
  std::vector<std::string> names;
  for (const auto& each : jinja::own_chat_templates(folder)) {
    const bool is_default = each.name == "default";
    companions.entries.push_back({is_default ? key : key + "." + each.name, GgufValue::text(each.source)});
    if (!is_default) names.push_back(each.name);
  }
  if (!names.empty()) companions.entries.push_back({"tokenizer.chat_templates", GgufValue::texts(names)});
}

}  // namespace

Companions companions_of(const fs::path& path, const ModelOutput& output, int64_t rows, bool with_tokenizer) {
  Companions companions;
  if (!is_gguf(output.path)) {
    if (!is_gguf(path)) {
      add_files_of_folder(path, with_tokenizer, companions);
    } else if (with_tokenizer) {
      add_files_of_gguf(path, companions);
    }
  } else if (with_tokenizer) {
    if (is_gguf(path)) {
      add_entries_of_gguf(path, companions);
    } else {
      add_entries_of_folder(path, rows, companions);
    }
  }
  return companions;
}

}  // namespace moe
