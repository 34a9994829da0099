#pragma once
/// The chat template that comes with a tokenizer, and the variables that its files give every template.

#include <string>
#include <string_view>

#include "base/file.h"
#include "template/template.h"

namespace moe::jinja {

struct ChatTemplateSource {
  std::string name;       // "default" unless the files name several
  std::string source;     // Jinja
  std::string origin;     // what errors call it: the file, and the template's name where there are several
  bool built_in = false;  // it comes from no file
};

/// The format of deepseek-moe-16b-chat (docs/templates.md), for models that come without a template.
std::string_view deepseek_moe_template();

/// `tokenizer` is a folder or a file in it. chat_template.jinja comes before `chat_template` of tokenizer_config.json;
/// additional_chat_templates/NAME.jinja add theirs. `name` chooses one; an empty one means `tool_use` where there is
/// such a template and the variables have tools, else `default`. Without any template it is DeepSeekMoE's format,
/// unless config.json beside the tokenizer says that the model is of another family: an error then.
ChatTemplateSource load_chat_template(const fs::path& tokenizer, std::string_view name, const Value& variables);

/// A dictionary of the special tokens by the names that templates have for them: bos_token, eos_token ..., as
/// tokenizer_config.json and special_tokens_map.json beside it say.
Value load_special_tokens(const fs::path& tokenizer);

/// `variables`, and those of `more` that are not among them.
Value with_variables(const Value& variables, const Value& more);

}  // namespace moe::jinja
