#include "ops/transfer.h"

namespace moe {

std::vector<double> download_doubles(Device& device, const View& view) {
  const auto count = static_cast<size_t>(view.elements());
  std::vector<double> values(count);
  if (view.dtype == DType::f64) {
    device.download(values.data(), view.data, count * sizeof(double));
  } else {
    std::vector<float> single(count);
    device.download(single.data(), view.as<float>(), count * sizeof(float));
    values.assign(single.begin(), single.end());
  }
  return values;
}

}  // namespace moe
