#include "cli/product_rate.h"

#include "measure/machine.h"

namespace moe {

double measured_product_rate(Compute& compute, DType dtype) {
  const int64_t size = compute.kind == DeviceKind::cuda ? 4096 : 768;
  return measure_product(*compute.backend, *compute.device, dtype, size, 2);
}

}  // namespace moe
