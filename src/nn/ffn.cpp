#include "nn/ffn.h"

namespace moe {

View ffn_forward(Pass& pass, const FfnWeights& weights, View x, View y) {
  const View gate_up = pass.save("ffn.gate_up", {x.size(0), 2 * weights.width()});
  const Arena::Frame frame(pass.scratch);
  const View activated = pass.temporary("ffn.activated", {x.size(0), weights.width()});
  linear(pass, x, weights.gate_up, gate_up);
  pass.backend.run(SwiGlu{.gate_up = gate_up, .y = activated});
  linear(pass, activated, weights.down, y);
  return gate_up;
}

void ffn_backward(Pass& pass, const FfnWeights& weights, const FfnWeights& gradients, View gate_up, View x, View dy,
                  View dx) {
  const Arena::Frame frame(pass.scratch);
  const View activated = pass.temporary("ffn.d_activated", {x.size(0), weights.width()});
  linear_input_gradient(pass, dy, weights.down, activated);
  // In place: gate_up becomes its gradient, the activation's gradient becomes the activation.
  pass.backend.run(SwiGluBackward{.gate_up = gate_up, .dy = activated, .d_gate_up = gate_up, .y = activated});
  linear_weight_gradient(pass, dy, activated, gradients.down);
  linear_weight_gradient(pass, gate_up, x, gradients.gate_up);
  linear_input_gradient(pass, gate_up, weights.gate_up, dx);
}

}  // namespace moe
