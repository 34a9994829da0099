#include "cli/empty_values.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace moe {
namespace {

/// An empty text is a text; the others say themselves what they expect.
bool takes_care_of_empty(const CLI::Option& option) {
  constexpr std::string_view kTexts[] = {"--prompt", "--system", "--stop", "--set", "--tokens", "--new-tokens"};
  constexpr std::string_view kKinds[] = {"INTEGER", "NUMBER", "SIZE"};
  const std::string name = option.get_name(), kind = option.get_type_name();
  return std::find(std::begin(kTexts), std::end(kTexts), name) != std::end(kTexts) ||
         std::any_of(std::begin(kKinds), std::end(kKinds), [&](std::string_view one) { return kind.starts_with(one); });
}

std::string complaint(std::string& value) {
  return value.empty() ? "the value is empty, expected one; perhaps a variable of the shell is not set" : "";
}

}  // namespace

void refuse_empty_values(CLI::App& app) {
  for (CLI::Option* const option : app.get_options([](const CLI::Option*) { return true; })) {
    const bool takes_value = option->get_items_expected_max() > 0;
    if (takes_value && !takes_care_of_empty(*option))
      option->transform(CLI::Validator(complaint, ""));  // checked first
  }
  for (CLI::App* const command : app.get_subcommands([](const CLI::App*) { return true; })) {
    refuse_empty_values(*command);
  }
}

}  // namespace moe
