#pragma once
/// The tables of keys for a model's shape and routing, and for the losses of routers (model/key_rows.h).

#include <span>

#include "model/key_rows.h"

namespace moe {

/// [model] and train.init_std, and the fields of config.json.
std::span<const KeyRow<ModelConfig>> model_keys();
/// [balance].
std::span<const KeyRow<BalanceConfig>> balance_keys();

}  // namespace moe
