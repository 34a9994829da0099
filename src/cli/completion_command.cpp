#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/output.h"
#include "cli/commands.h"
#include "cli/unknown_words.h"

namespace moe {
namespace {

/// What may follow a command: the commands below it and its options.
struct Words {
  std::string command;  ///< "moe eval loss"
  std::vector<std::string> below, options;
};

std::vector<const CLI::App*> commands_below(const CLI::App& command) {
  return command.get_subcommands([](const CLI::App* one) { return !one->get_name().empty(); });
}

std::vector<std::string> options_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void collect(const CLI::App& command, std::vector<Words>& all) {
  Words words{.command = full_name(command), .below = {}, .options = options_of(command)};
  for (const CLI::App* one : commands_below(command)) words.below.push_back(one->get_name());
  all.push_back(words);
  for (const CLI::App* one : commands_below(command)) collect(*one, all);
}

/// The script finds the longest command in the words typed so far. After it come its commands and, behind a "-", its
/// options; files are completed everywhere, because most arguments are files.
std::string bash_script(const CLI::App& app) {
  std::vector<Words> all;
  collect(app, all);
  std::string cases;
  for (const Words& words : all) {
    cases += fmt::format("    '{}') below='{}' options='{}' ;;\n", words.command, fmt::join(words.below, " "),
                         fmt::join(words.options, " "));
  }
  return fmt::format(R"(# Completion of moe's commands and options for bash:  source <(moe completion bash)
_moe_words() {{
  case "$1" in
{}    *) return 1 ;;
  esac
}}

_moe() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} command=moe below options typed
  for typed in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    _moe_words "$command $typed" && command="$command $typed"
    [[ $command == 'moe help' ]] && command=moe
  done
  _moe_words "$command"
  COMPREPLY=()
  case "$word" in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word") ;;
    *)
      mapfile -t COMPREPLY < <(compgen -W "$below" -- "$word")
      if [[ ${{#COMPREPLY[@]}} -eq 0 ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames 2>/dev/null
      fi
      ;;
  esac
}}
complete -F _moe moe
)",
                     cases);
}

}  // namespace

void add_completion_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("completion", "Prints a script that completes commands and options in a shell");
  command->require_subcommand(1);
  CLI::App* bash = command->add_subcommand("bash", "For bash: source <(moe completion bash)");
  bash->callback([&app] { print_text(bash_script(app)); });
}

}  // namespace moe
