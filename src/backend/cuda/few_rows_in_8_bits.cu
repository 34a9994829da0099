#include "backend/cuda/few_rows_kernel.cuh"

namespace moe::cuda::few_rows {

template void start<lines::Q8_0x4>(const Context&, const FewRows&, bool);
template void start_with_norm<lines::Q8_0x4>(const Context&, const FewRows&, const Norm&);

}  // namespace moe::cuda::few_rows
