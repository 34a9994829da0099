#pragma once
/// The losses that a model's routing has.

#include "model/config.h"

namespace moe {

/// The losses of a model if the run file does not set them.
BalanceConfig default_balance(const ModelConfig& config);

/// Throws an Error that names the key of [balance] which the model's routing does not have, or which does not fit its
/// sizes.
void validate(const BalanceConfig& balance, const ModelConfig& config);

}  // namespace moe
