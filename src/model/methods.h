#pragma once
/// The systems that DeepSeekMoE is compared with, each a row of choices (docs/routing.md): what `model.method` of a run
/// file stands for.

#include <span>
#include <string_view>

#include "model/config.h"

namespace moe {

struct Method {
  const char* name;
  const char* title;
  /// Sets the row's choices on a model and its losses; sizes stay as they are, but for K where the method fixes it.
  void (*apply)(ModelConfig& model, BalanceConfig& balance);
  bool balanced_hash = false;
};

/// In the order of docs/routing.md.
std::span<const Method> methods();

/// Throws UsageError with all names where there is none of this one.
const Method& find_method(std::string_view name);

/// The losses that a model is trained with unless a run file says otherwise.
BalanceConfig default_balance(const ModelConfig& config);

/// Throws Error naming the key of [balance] that the model's routing does not have, or that does not fit its sizes.
void validate(const BalanceConfig& balance, const ModelConfig& config);

}  // namespace moe
