#include "nn/ffn.h"

namespace moe {

View ffn_forward(Pass& pass, const FfnWeights& weights, View x, View y, const RowScale& rows) {
  const Arena::Frame frame(pass.scratch);
  const View gate_up = pass.save_or_rebuild(Rebuild::all, "ffn.gate_up", {x.size(0), 2 * weights.width()});
  const View activated = pass.temporary("ffn.activated", {x.size(0), weights.width()});
  linear_forward(pass, weights.gate_up, x,
                 SwiGlu{.gate_up = gate_up, .scale = rows.scale, .scale_index = rows.index, .y = activated});
  linear_forward(pass, weights.down, activated, y);
  return pass.unless_rebuilt(Rebuild::all, gate_up);
}

void ffn_backward(Pass& pass, const FfnWeights& weights, const FfnWeights& gradients, View gate_up, View x, View dy,
                  View dx, const RowScale& rows, View d_scale) {
  const Arena::Frame frame(pass.scratch);
  if (!gate_up) {
    gate_up = pass.temporary("ffn.gate_up", {x.size(0), 2 * weights.width()});
    linear_forward(pass, weights.gate_up, x, gate_up);
  }
  const View activated = pass.temporary("ffn.d_activated", {x.size(0), weights.width()});
  const View d_down_low = linear_input_gradient(pass, weights.down, dy, activated);
  // In place: gate_up becomes its gradient, the activation's gradient becomes the activation.
  pass.backend.run(SwiGluBackward{.gate_up = gate_up,
                                  .scale = rows.scale,
                                  .scale_index = rows.index,
                                  .dy = activated,
                                  .d_gate_up = gate_up,
                                  .y = activated,
                                  .d_scale = d_scale});
  linear_weight_gradient(pass, weights.down, gradients.down, dy, activated, d_down_low);
  const View d_gate_up_low = linear_input_gradient(pass, weights.gate_up, gate_up, dx);
  linear_weight_gradient(pass, weights.gate_up, gradients.gate_up, gate_up, x, d_gate_up_low);
}

}  // namespace moe
