#include "cli/routing_option.h"

#include <charconv>

#include "base/error.h"
#include "cli/number_option.h"

namespace moe {
namespace {

int64_t number(std::string_view text, std::string_view whole) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0) return value;
  fail_usage("--mask-experts {}: expected LAYER:EXPERT,EXPERT,..., numbers from 0 on", whole);
}

/// "LAYER:EXPERT,EXPERT"
ExpertMask parse_mask(std::string_view text) {
  const size_t colon = text.find(':');
  ExpertMask mask{.layer = number(text.substr(0, colon), text), .experts = {}};
  if (colon == std::string_view::npos) number("", text);
  for (std::string_view rest = text.substr(colon + 1);;) {
    const size_t comma = rest.find(',');
    mask.experts.push_back(number(rest.substr(0, comma), text));
    if (comma == std::string_view::npos) return mask;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace

void add_routing_options(CLI::App& command, RoutingSwitches& switches) {
  add_number(command, "--experts-per-token", switches.experts_per_token, {1, 1 << 20},
             "routed experts that a token uses (default: the model's)", false);
  command
      .add_option_function<std::vector<std::string>>(
          "--mask-experts",
          [&switches](const std::vector<std::string>& masks) {
            for (const std::string& mask : masks) switches.masked.push_back(parse_mask(mask));
          },
          "experts of a layer that no token may choose; may be repeated")
      ->type_name("LAYER:E,E")
      ->allow_extra_args(false);
  add_number(command, "--mask-best", switches.skip, {0, 1 << 20}, "number of each token's best experts to skip");
  command.add_flag("--drop-shared", switches.drop_shared, "replace each shared expert by one more routed expert");
}

}  // namespace moe
