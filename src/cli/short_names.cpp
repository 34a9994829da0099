#include "cli/short_names.h"

#include <algorithm>
#include <string_view>

namespace moe {
namespace {

struct Alias {
  std::string_view name, ours;
};

/// -m MODEL: the command takes its model without a name.
constexpr std::string_view kModel = "";

constexpr Alias kAliases[] = {
    {"-m", kModel},
    {"--model", kModel},
    {"-p", "--prompt"},
    {"-f", "--prompt-file"},
    {"--file", "--prompt-file"},
    {"-n", "--max-new-tokens"},
    {"--predict", "--max-new-tokens"},
    {"--n-predict", "--max-new-tokens"},
    {"-c", "--context"},
    {"--ctx-size", "--context"},
    {"-t", "--threads"},
    {"-s", "--seed"},
    {"--temp", "--temperature"},
    {"--repeat-penalty", "--repetition-penalty"},
    {"-sys", "--system"},
    {"--system-prompt", "--system"},
};

bool has(const CLI::App& command, std::string_view option) {
  return command.get_option_no_throw(std::string(option)) != nullptr;
}

/// True if the word after `word` is its value.
bool takes_next(const CLI::App& command, const std::string& word) {
  if (!word.starts_with('-') || word.find('=') != std::string::npos) return false;
  const CLI::Option* option = command.get_option_no_throw(word);
  return option != nullptr && option->get_items_expected_min() > 0;
}

}  // namespace

std::vector<std::string> with_long_names(const CLI::App& app, std::vector<std::string> words) {
  if (words.empty()) return words;
  const CLI::App* command = nullptr;
  for (const CLI::App* one : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (one->get_name() == words[0]) command = one;
  }
  if (command == nullptr || !has(*command, "--max-new-tokens")) return words;
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "--") break;
    const size_t name_size = std::min(words[i].find('='), words[i].size());
    const std::string_view name = std::string_view(words[i]).substr(0, name_size);
    const auto alias =
        std::find_if(std::begin(kAliases), std::end(kAliases), [&](const Alias& one) { return one.name == name; });
    if (alias != std::end(kAliases) && alias->ours == kModel && !has(*command, name)) {
      if (name_size < words[i].size()) {
        words[i] = words[i].substr(name_size + 1);
      } else if (i + 1 < words.size()) {
        words.erase(words.begin() + static_cast<int64_t>(i));
      }
      continue;
    }
    if (alias != std::end(kAliases) && has(*command, alias->ours) && !has(*command, name)) {
      words[i] = std::string(alias->ours) + words[i].substr(name_size);
    }
    if (takes_next(*command, words[i])) ++i;
  }
  return words;
}

}  // namespace moe
