#include "cli/routing_option.h"

#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/printable.h"
#include "cli/number_option.h"

namespace moe {
namespace {

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  return std::nullopt;
}

/// "LAYER:EXPERT,EXPERT"; nothing if the text has another form.
std::optional<ExpertMask> experts_of_layer(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto layer = number<int64_t>(text.substr(0, colon));
  if (!layer || *layer < 0) return std::nullopt;
  ExpertMask mask{.layer = *layer, .experts = {}};
  for (std::string_view rest = text.substr(colon + 1);;) {
    const size_t comma = rest.find(',');
    const auto expert = number<int64_t>(rest.substr(0, comma));
    if (!expert || *expert < 0) return std::nullopt;
    mask.experts.push_back(*expert);
    if (comma == std::string_view::npos) return mask;
    rest.remove_prefix(comma + 1);
  }
}

/// An option with a list of values, each of which `take` gets.
template <class Take>
void add_list(CLI::App& command, const std::string& name, const std::string& type, const std::string& help, Take take) {
  const auto take_all = [take](const std::vector<std::string>& values) {
    for (const std::string& value : values) take(value);
  };
  command.add_option_function<std::vector<std::string>>(name, take_all, help)->type_name(type)->allow_extra_args(false);
}

}  // namespace

ExpertMask parse_mask(std::string_view text, std::string_view name) {
  if (const auto mask = experts_of_layer(text)) return *mask;
  fail_usage("{} {}: expected LAYER:EXPERT,EXPERT,..., numbers from 0 on", name, printable(text));
}

std::vector<ExpertBoost> parse_boosts(std::string_view text, std::string_view name) {
  const size_t equals = text.find('=');
  const bool whole = equals != std::string_view::npos;
  const auto experts = experts_of_layer(text.substr(0, equals));
  const auto value = whole ? number<double>(text.substr(equals + 1)) : std::nullopt;
  // This form of the condition also refuses NaN.
  if (!experts || !value || !(*value >= -kMostBoost && *value <= kMostBoost)) {
    fail_usage("{} {}: expected LAYER:EXPERT,EXPERT,...=NUMBER, layers and experts from 0 on, a number from {} to {}",
               name, printable(text), -kMostBoost, kMostBoost);
  }
  std::vector<ExpertBoost> boosts;
  for (const int64_t expert : experts->experts) {
    boosts.push_back({.layer = experts->layer, .expert = expert, .value = *value});
  }
  return boosts;
}

void add_routing_options(CLI::App& command, RoutingSwitches& switches) {
  add_number(command, "--experts-per-token", switches.experts_per_token, {1, 1 << 20},
             "routed experts that a token uses (default: the model's)", false);
  add_list(command, "--mask-experts", "LAYER:E,E", "experts of a layer that no token may choose; may be repeated",
           [&switches](const std::string& text) { switches.masked.push_back(parse_mask(text, "--mask-experts")); });
  add_list(command, "--boost-experts", "LAYER:E,E=X",
           "add X to the scores by which tokens choose these experts; may be negative; may be repeated",
           [&switches](const std::string& text) {
             const auto boosts = parse_boosts(text, "--boost-experts");
             switches.boosted.insert(switches.boosted.end(), boosts.begin(), boosts.end());
           });
  add_number(command, "--mask-best", switches.skip, {0, 1 << 20}, "number of each token's best experts to skip");
  command.add_flag("--drop-shared", switches.drop_shared, "replace each shared expert by one more routed expert");
}

}  // namespace moe
