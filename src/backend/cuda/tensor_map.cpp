#include "backend/cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include "backend/cuda/context.h"

namespace moe::cuda {

CUtensorMap tensor_map(const View& stored, int box_rows, const char* what) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
          "looking for cuTensorMapEncodeTiled");
    MOE_CHECK(found == cudaDriverEntryPointSuccess);
    return reinterpret_cast<Encode>(function);
  }();
  const int outer = stored.rank() - 2;
  const int64_t columns = stored.size(outer + 1), rows = stored.size(outer), matrices = outer > 0 ? stored.size(0) : 1;
  // An axis of one element may have any stride; the engine requires multiples of 16 bytes.
  const int64_t row_step = rows > 1 ? stored.stride[static_cast<size_t>(outer)] : columns;
  const int64_t matrix_step = matrices > 1 ? stored.stride[0] : row_step * rows;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows),
                              static_cast<cuuint64_t>(matrices)};
  const cuuint64_t strides[] = {2 * static_cast<cuuint64_t>(row_step), 2 * static_cast<cuuint64_t>(matrix_step)};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(box_rows), 1}, steps[] = {1, 1, 1};
  CUtensorMap map{};
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, stored.data, sizes, strides, box, steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    fail("{}: the GPU's copy engine does not take an operand of {} (error {})", what, stored.shape.text(),
         static_cast<int>(result));
  }
  return map;
}

}  // namespace moe::cuda
