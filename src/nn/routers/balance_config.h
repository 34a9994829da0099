#pragma once
/// The losses that routers add to the cross-entropy, and their weights.

#include <cstdint>
#include <optional>
#include <string_view>

namespace moe {

/// The tokens over which f and P of a balance loss are computed (docs/paper.md section 4).
enum class BalanceScope { sequence, microbatch, step };
const char* name(BalanceScope scope);
/// "sequence", "microbatch" or "step".
std::optional<BalanceScope> balance_scope_from(std::string_view text);

/// The losses that routers add to the cross-entropy. Each is reported separately.
enum class RouterLoss { expert, device, communication, z, importance, load, stable_balance, distillation };
constexpr int64_t kRouterLosses = 8;
/// "expert", "device", ...
const char* name(RouterLoss loss);

/// The balance losses of a training run; a loss with weight 0 is not computed.
struct BalanceConfig {
  float alpha_expert = 0;  ///< alpha1
  float alpha_device = 0;  ///< alpha2
  int devices = 1;         ///< D, the number of device groups
  BalanceScope scope = BalanceScope::sequence;
  float alpha_communication = 0;  ///< alpha3, over the groups of RouterConfig::limit
  bool first_choice = false;      ///< f counts first choices only
  float z_loss = 0;
  float importance = 0;
  float load = 0;
  float stable_balance = 0;
  float stable_distillation = 0;
  float bias_rate = 0;  ///< loss-free balancing: the change of a bias in one step

  /// True if a loss is computed over groups of tokens.
  bool grouped() const {
    return alpha_expert != 0 || alpha_device != 0 || alpha_communication != 0 || importance != 0 || load != 0 ||
           stable_balance != 0;
  }
  /// True if a counting pass must come first.
  bool counts_first() const { return scope == BalanceScope::step && grouped(); }
};

}  // namespace moe
