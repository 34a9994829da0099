#include "checkpoint/finite_weights.h"

#include <vector>

#include "base/error.h"
#include "tensor/finite.h"

namespace moe {

void refuse_not_finite(const std::string& file, const std::string& tensor, int64_t first, DType dtype, const void* data,
                       int64_t count) {
  const int64_t found = first_not_finite(dtype, data, count);
  if (found < 0) return;
  const StorageType& type = storage(dtype);
  std::vector<float> block(static_cast<size_t>(type.block));
  type.to_floats(static_cast<const char*>(data) + bytes_of(dtype, found / type.block * type.block), block.data(),
                 type.block);
  fail(
      "{}: element {} of the tensor {} is {}, expected a finite number; the file is damaged, or training had diverged "
      "when it was written: use another one",
      file, first + found, tensor, block[static_cast<size_t>(found % type.block)]);
}

void refuse_overflow(const std::string& file, const std::string& tensor, int64_t first, const float* values,
                     DType dtype, const void* converted, int64_t count) {
  const int64_t found = first_not_finite(dtype, converted, count);
  if (found < 0) return;
  fail("{}: element {} of the tensor {} is {}, which is more than {} can hold; choose a wider type, for instance f32",
       file, first + found, tensor, values[found], name(dtype));
}

}  // namespace moe
