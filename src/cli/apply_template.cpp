#include "cli/apply_template.h"

#include <memory>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "cli/model_folder.h"
#include "cli/standard_input.h"
#include "template/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Fills a chat template in and writes the text to standard output, with nothing added. The template is
that of the tokenizer's folder (chat_template.jinja, or chat_template in tokenizer_config.json) or the
file that --template names. FILE.json is an object whose keys are the template's variables: messages,
and whatever else the template asks for (tools, add_generation_prompt, enable_thinking ...). With
--tokenizer, its special tokens are variables too (bos_token, eos_token ...), unless FILE.json has them.
A tokenizer without a template gets the chat format of DeepSeekMoE. docs/templates.md has the details.

Examples:
  echo '{"messages": [{"role": "user", "content": "Hello"}], "add_generation_prompt": true}' |
    moe tokenizer apply-template --tokenizer runs/tokenizer --variables -
  moe tokenizer apply-template --template chat.jinja --variables chat.json)";

struct Flags {
  std::string tokenizer;
  std::string template_file;
  std::string name;
  std::string variables;
  bool ids = false;
};

std::string read_text(const std::string& path) {
  const MappedFile file(path);
  return std::string(file.text());
}

void apply_template(const Flags& flags) {
  if (flags.tokenizer.empty() && flags.template_file.empty()) {
    fail_usage("moe tokenizer apply-template needs --tokenizer or --template");
  }
  if (flags.ids && flags.tokenizer.empty()) fail_usage("--ids needs the tokenizer that gives them: --tokenizer");
  if (!flags.name.empty() && !flags.template_file.empty()) {
    fail_usage("--name chooses one of a tokenizer's templates; with --template there is only that file's");
  }
  const bool from_input = flags.variables == "-";
  const std::string document = from_input ? read_standard_input() : read_text(flags.variables);
  jinja::Value variables = jinja::parse_variables(document, from_input ? "standard input" : flags.variables);
  std::string source, origin = flags.template_file;
  if (!flags.template_file.empty()) source = read_text(flags.template_file);
  if (!flags.tokenizer.empty()) {
    const auto special = jinja::load_special_tokens(flags.tokenizer);
    if (source.empty() && flags.template_file.empty()) {
      const auto chosen = jinja::load_chat_template(flags.tokenizer, flags.name, variables);
      if (chosen.built_in) log_info("{} has no chat template; this is the chat format of DeepSeekMoE", flags.tokenizer);
      source = chosen.source;
      origin = chosen.origin;
    }
    variables = jinja::with_variables(variables, special);
  }
  const std::string text = jinja::Template(source, origin).render(variables).text;
  if (!flags.ids) return print_text(text);
  const Tokenizer tokenizer = Tokenizer::load(flags.tokenizer);
  // The template has put BOS where it belongs, and writes special tokens by their names.
  const auto ids = tokenizer.encode(text, {.add_special = false, .parse_special = true});
  write_output(fmt::format("{}\n", fmt::join(ids, " ")));
}

}  // namespace

void add_apply_template_command(CLI::App& parent) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = parent.add_subcommand("apply-template", "Writes a conversation as a model's chat template says");
  command->footer(kHelp);
  add_tokenizer_option(*command, flags->tokenizer,
                       "the tokenizer whose template is meant: its folder, or a file in it");
  command->add_option("--template", flags->template_file, "a file with the template (Jinja) instead")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  command->add_option("--name", flags->name,
                      "which of a tokenizer's templates (default: tool_use where there are tools, else default)");
  command->add_option("--variables", flags->variables, "a JSON object with the template's variables; -: standard input")
      ->required()
      ->type_name("FILE.json");
  command->add_flag("--ids", flags->ids, "write the text's token ids instead");
  command->callback([flags] { apply_template(*flags); });
}

}  // namespace moe
