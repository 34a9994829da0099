#include "backend/cuda/path.h"

#include <atomic>

namespace moe {
namespace {

std::atomic<CudaPath> forced{CudaPath::automatic};
std::atomic<int> processors_asked_for{0};

}  // namespace

const char* name(CudaPath path) {
  switch (path) {
    case CudaPath::automatic:
      return "automatic";
    case CudaPath::simt:
      return "simt";
    case CudaPath::tensor:
      return "tensor";
    case CudaPath::hopper:
      return "hopper";
  }
  return "?";
}

void force_cuda_path(CudaPath path) { forced = path; }
void force_cuda_processors(int count) { processors_asked_for = count; }

CudaPath cuda::product_path() { return forced; }
int cuda::forced_processors() { return processors_asked_for; }

}  // namespace moe
