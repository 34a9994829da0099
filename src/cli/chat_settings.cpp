#include "cli/chat_settings.h"

#include <memory>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "base/printable.h"
#include "cli/sampling_option.h"
#include "cli/unknown_words.h"

namespace moe {
namespace {

/// "--top-k" is the key "top-k".
std::string key_of(const CLI::Option& option) { return option.get_lnames().front(); }

/// Strings that end an answer are a list, and the cache has the size of the context.
bool is_setting(const CLI::Option& option) {
  return !option.get_lnames().empty() && key_of(option) != "stop" && key_of(option) != "context";
}

}  // namespace

std::string settings_table(const GenerationOptions& options) {
  GenerationOptions shown = options;
  CLI::App keys("", "/set");
  keys.set_help_flag();
  add_sampling_options(keys, shown);
  std::string text;
  for (const CLI::Option* option : keys.get_options()) {
    if (!is_setting(*option)) continue;
    text += fmt::format("{:<19} {:<8} {}\n", key_of(*option), option->get_default_str(), option->get_description());
  }
  return text;
}

GenerationOptions with_setting(const GenerationOptions& options, const std::string& key, const std::string& value) {
  GenerationOptions changed = options;
  CLI::App keys("", "/set");
  keys.set_help_flag();
  add_sampling_options(keys, changed);
  std::vector<std::string> names;
  for (const CLI::Option* option : keys.get_options()) {
    if (is_setting(*option)) names.push_back(key_of(*option));
  }
  if (std::find(names.begin(), names.end(), key) == names.end()) {
    const std::string near = nearest_name(key, names);
    fail_usage("/set has no key {}; {}", printable(key),
               near.empty() ? fmt::format("it has {}", fmt::join(names, ", ")) : "did you mean " + near + "?");
  }
  try {
    keys.parse(std::vector<std::string>{fmt::format("--{}={}", key, value)});
  } catch (const CLI::ParseError& error) {
    fail_usage("/set {} {}: {}", key, printable(value), error.what());
  } catch (const UsageError& error) {  // "--top-p 2: expected a number ..."
    fail_usage("/set {}", std::string_view(error.what()).substr(2));
  }
  validate(changed);
  return changed;
}

}  // namespace moe
