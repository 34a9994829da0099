#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/output.h"
#include "cli/commands.h"
#include "cli/unknown_words.h"

namespace moe {
namespace {

void print_help(CLI::App& root, const std::vector<std::string>& words) {
  CLI::App* command = &root;
  for (const std::string& word : words) {
    const auto below = command->get_subcommands([&](const CLI::App* one) { return one->get_name() == word; });
    if (below.empty()) throw UsageError(unknown_command(*command, word));
    command = below.front();
  }
  print_text(command->get_formatter()->make_help(command, full_name(*command), CLI::AppFormatMode::Normal));
}

}  // namespace

void add_help_command(CLI::App& app) {
  auto words = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("help", "Explains a command and its options: moe help eval loss");
  command->add_option("COMMAND", *words, "a command, and its subcommand")->type_name("");
  command->callback([words, &app] { print_help(app, *words); });
}

}  // namespace moe
