#pragma once
/// The chat template of a tokenizer, and the variables that the tokenizer's files give to every template.

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "template/template.h"

namespace moe::jinja {

struct ChatTemplateSource {
  std::string name;       // "default" unless the files name several
  std::string source;     // Jinja
  std::string origin;     // its name in errors: the file, and the template's name if there are several
  bool built_in = false;  // true if it comes from no file
};

/// The format of deepseek-moe-16b-chat (docs/templates.md), for models without a template.
std::string_view deepseek_moe_template();

/// The folder beside chat_template.jinja that holds templates of other names.
inline constexpr const char* kMoreTemplates = "additional_chat_templates";

/// The templates of a tokenizer's files, or of a GGUF file; none if they have none.
std::vector<ChatTemplateSource> own_chat_templates(const fs::path& tokenizer);

/// `tokenizer` is a folder, a file in it or a GGUF file. chat_template.jinja has priority over `chat_template` of
/// tokenizer_config.json. additional_chat_templates/NAME.jinja add further ones. `name` chooses one. An empty name
/// means `tool_use` if there is such a template and the variables have tools, else `default`. Without any template it
/// is DeepSeekMoE's format; but if config.json beside the tokenizer names another family, that is an error.
ChatTemplateSource load_chat_template(const fs::path& tokenizer, std::string_view name, const Value& variables);

/// True if a tokenizer without templates gets DeepSeekMoE's format: if config.json beside it names no other family.
bool has_built_in_template(const fs::path& tokenizer);

/// A dictionary of the special tokens, with the names that templates use: bos_token, eos_token ..., from
/// tokenizer_config.json and special_tokens_map.json beside it.
Value load_special_tokens(const fs::path& tokenizer);

/// `variables`, and those of `more` that are not in `variables`.
Value with_variables(const Value& variables, const Value& more);

}  // namespace moe::jinja
