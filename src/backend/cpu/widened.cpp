#include "backend/cpu/widened.h"

namespace moe::cpu {

void widen_row(const View& matrix, int64_t row, float* to) {
  const int64_t offset = matrix.rank() > 1 ? row * matrix.stride[0] : 0;
  storage(matrix.dtype)
      .to_floats(static_cast<const char*>(matrix.data) + bytes_of(matrix.dtype, offset), to,
                 matrix.size(matrix.rank() - 1));
}

View readable(const Context& context, const View& view) {
  if (!view || is_native(view.dtype)) return view;
  MOE_CHECK(view.rank() == 1 || view.rank() == 2);
  if (view.elements() > kScratchFloats) {
    fail("a {} {} is more than the {} numbers that the CPU backend widens at once; store it as f32 or bf16",
         name(view.dtype), view.shape.text(), kScratchFloats);
  }
  const View floats(context.scratch.widened(0), DType::f32, view.shape);
  const int64_t rows = view.rank() == 1 ? 1 : view.size(0);
  const int64_t width = view.size(view.rank() - 1);
  for (int64_t row = 0; row < rows; ++row) widen_row(view, row, floats.as<float>() + row * width);
  return floats;
}

}  // namespace moe::cpu
