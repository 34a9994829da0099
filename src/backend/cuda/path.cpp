#include "backend/cuda/path.h"

#include <atomic>

namespace moe {
namespace {

std::atomic<CudaPath> forced{CudaPath::automatic};
std::atomic<int> processors_asked_for{0};

}  // namespace

void force_cuda_path(CudaPath path) { forced = path; }
void force_cuda_processors(int count) { processors_asked_for = count; }

CudaPath cuda::product_path() { return forced; }
bool cuda::may_use_library() { return forced == CudaPath::automatic || forced == CudaPath::portable; }
bool cuda::may_use_hopper() { return forced == CudaPath::automatic || forced == CudaPath::hopper; }
int cuda::forced_processors() { return processors_asked_for; }

}  // namespace moe
