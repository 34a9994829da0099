#include "checkpoint/conversion_run.h"

#include <algorithm>

namespace moe {

int64_t conversion_run(const Parameter& parameter, DType type, int64_t begin, int64_t left) {
  const int rank = parameter.shape.rank();
  if (!storage(type).by_matrix || rank < 2) return std::min(kConvertedAtOnce, left);
  const int64_t width = parameter.shape[rank - 1], all = parameter.shape[rank - 2];
  const int64_t row = begin / width % all;
  int64_t end = 0;
  for (const ParameterSlice& slice : parameter.slices) {
    end += slice.rows;
    if (row < end) return std::min((end - row) * width, left);
  }
  return std::min((all - row) * width, left);
}

}  // namespace moe
