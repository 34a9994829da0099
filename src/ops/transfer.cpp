#include "ops/transfer.h"

namespace moe {

void upload_floats(Device& device, const View& view, const std::vector<float>& values) {
  MOE_CHECK(static_cast<size_t>(view.elements()) >= values.size());
  const auto count = static_cast<int64_t>(values.size());
  std::vector<char> stored(static_cast<size_t>(bytes_of(view.dtype, count)));
  storage(view.dtype).from_floats(values.data(), stored.data(), count);
  device.upload(view.data, stored.data(), stored.size());
}

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
