#pragma once
/// Copies between vectors of the host and views of a device.

#include <vector>

#include "base/error.h"
#include "ops/device.h"
#include "tensor/view.h"

namespace moe {

/// How a device stores a weight of this type: in the order that its kernels read (Device::rearranges_blocks()).
inline DType type_on(const Device& device, DType dtype, const Shape& shape) {
  return device.rearranges_blocks() ? rearranged(dtype, shape[shape.rank() - 1]) : dtype;
}

/// Copies a host vector to the first elements of a device view with the same element size.
template <class T>
void upload_vector(Device& device, const View& view, const std::vector<T>& values) {
  MOE_CHECK(static_cast<size_t>(view.elements()) >= values.size() && size_of(view.dtype) == sizeof(T));
  device.upload(view.data, values.data(), values.size() * sizeof(T));
}

/// Copies numbers to a contiguous view of any float type, rounded to it.
void upload_floats(Device& device, const View& view, const std::vector<float>& values);

/// All elements of a contiguous f32 or f64 view.
std::vector<double> download_doubles(Device& device, const View& view);

}  // namespace moe
