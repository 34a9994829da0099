#include "cli/repeated_words.h"

#include <map>

#include "base/log.h"
#include "base/utf8.h"
#include "cli/unknown_words.h"

namespace moe {

std::string repeated_option(const CLI::App& app) {
  for (const CLI::Option* option : chosen_command(app).get_options()) {
    const CLI::results_t& given = option->results();
    if (option->get_items_expected_max() != 1 || given.size() < 2) continue;
    if (option->get_multi_option_policy() != CLI::MultiOptionPolicy::Throw) continue;
    return fmt::format("{} takes one value, but was given {}: {}; give it once", option->get_name(),
                       given.size() == 2 ? "two" : fmt::format("{}", given.size()),
                       valid_utf8(fmt::format("{}", fmt::join(given, ", "))));
  }
  return "";
}

void warn_of_repeated_keys(const std::vector<std::string>& assignments) {
  std::map<std::string, std::string> given;
  for (const std::string& assignment : assignments) {
    const std::string key = assignment.substr(0, assignment.find('='));
    const auto [before, is_new] = given.try_emplace(key, assignment);
    if (!is_new && before->second != assignment) {
      log_warning("--set {} takes the place of --set {}", assignment, before->second);
    }
    before->second = assignment;
  }
}

}  // namespace moe
