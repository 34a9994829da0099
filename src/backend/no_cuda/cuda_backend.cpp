// What a program built without CUDA has in place of src/backend/cuda.

#include "backend/cuda/cuda_backend.h"

#include "base/error.h"

namespace moe {

std::string why_no_cuda() {
  return "this program was built without CUDA; install the CUDA toolkit (nvcc) and run `make build` again";
}

int cuda_gpus() { return 0; }

std::unique_ptr<Device> make_cuda_device(int) { fail("no GPU can be used: {}", why_no_cuda()); }

std::unique_ptr<Backend> make_cuda_backend(Device&) { fail("no GPU can be used: {}", why_no_cuda()); }

std::unique_ptr<Communicator> make_cuda_communicator(Communicator&, Device&) {
  fail("no GPU can be used: {}", why_no_cuda());
}

int64_t cuda_workspace_bytes() { return 0; }

std::vector<std::string> cuda_slow_paths() { return {}; }
int64_t cuda_fused_products() { return 0; }

void force_cuda_path(CudaPath) {}
void force_cuda_processors(int) {}

}  // namespace moe
