#include "nn/experts_operation.h"

namespace moe {

ExpertRows<SwiGlu> experts_operation(const Linear& gate_up_map, const Linear& down_map, const Route& route, View x,
                                     View gate_up, View activated, View rows) {
  const View &gates = route.choice.gates, &offsets = route.offsets;
  // The gate is applied before the down projection, so that backward needs no expert's output.
  return {.first = expert_product(gate_up_map, x, route.row_token, offsets, gate_up),
          .activation = {.gate_up = gate_up,
                         .scale = gates.reshaped({gates.elements()}),
                         .scale_index = route.row_slot,
                         .row_count = offsets.rows(offsets.size(0) - 1, 1),
                         .y = activated},
          .last = expert_product(down_map, activated, {}, offsets, rows)};
}

}  // namespace moe
