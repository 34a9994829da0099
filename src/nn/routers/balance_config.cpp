#include "nn/routers/balance_config.h"

#include <array>

namespace moe {

const char* name(BalanceScope scope) {
  switch (scope) {
    case BalanceScope::sequence:
      return "sequence";
    case BalanceScope::microbatch:
      return "microbatch";
    case BalanceScope::step:
      return "step";
  }
  return "?";
}

std::optional<BalanceScope> balance_scope_from(std::string_view text) {
  for (const BalanceScope scope : {BalanceScope::sequence, BalanceScope::microbatch, BalanceScope::step}) {
    if (text == name(scope)) return scope;
  }
  return std::nullopt;
}

const char* name(RouterLoss loss) {
  constexpr std::array names{"expert",     "device", "communication",  "z",
                             "importance", "load",   "stable_balance", "distillation"};
  return names[static_cast<size_t>(loss)];
}

}  // namespace moe
