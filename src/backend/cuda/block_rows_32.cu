#include "backend/cuda/block_rows.cuh"

namespace moe::cuda::block_rows {

template void start_type<blocks_of::Q8_0>(const Context&, const FewRows&, const uint8_t*, bool);
template void start_type<blocks_of::Q4_0>(const Context&, const FewRows&, const uint8_t*, bool);
template void start_type<blocks_of::Q5_0>(const Context&, const FewRows&, const uint8_t*, bool);

}  // namespace moe::cuda::block_rows
