#include "cli/tokenizer_output.h"

#include "base/error.h"
#include "base/output_path.h"
#include "base/paths.h"

namespace moe {

void check_tokenizer_output(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) check_output_file_in(folder, name);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json",
                           "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"}) {
    if (!path_exists(folder / name)) continue;
    fail("{} already holds a tokenizer ({}); choose another folder, or remove the old one", folder.string(), name);
  }
}

}  // namespace moe
