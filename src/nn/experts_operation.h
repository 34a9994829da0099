#pragma once
/// The forward pass of the routed experts as one operation, without adapters. Letters as in nn/moe.h.

#include "nn/linear.h"
#include "nn/routers/routing_types.h"
#include "ops/expert_rows.h"

namespace moe {

/// From tokens x [T, D] to `rows` [R, D]; `gate_up` [R, 2F] is saved, `activated` [R, F] is memory for it.
ExpertRows<SwiGlu> experts_operation(const Linear& gate_up_map, const Linear& down_map, const Route& route, View x,
                                     View gate_up, View activated, View rows);

}  // namespace moe
