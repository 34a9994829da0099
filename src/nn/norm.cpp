#include "nn/norm.h"

namespace moe {

void norm_backward(Pass& pass, View gain, View gradient, View inv_rms, View dy, View x, View dx) {
  const Arena::Frame frame(pass.scratch);
  if (!gradient) {  // the operation needs a place for it, but nobody reads it
    gradient = pass.scratch.push("norm.unused_gradient", pass.stat(), gain.shape);
    pass.backend.run(Fill{.x = gradient, .value = 0});
  }
  pass.backend.run(RmsNormBackward{.dy = dy, .x = x, .gain = gain, .inv_rms = inv_rms, .dx = dx, .dgain = gradient});
}

}  // namespace moe
