#pragma once
/// The backward pass of a norm, whose gain may be frozen. T tokens, D hidden size.

#include "nn/pass.h"

namespace moe {

/// dx [T, D] += the gradient of the norm's input x, from dy. `gradient` [D] += the gradient of the gain, unless it is
/// absent.
void norm_backward(Pass& pass, View gain, View gradient, View inv_rms, View dy, View x, View dx);

}  // namespace moe
