#pragma once
/// One NVIDIA GPU: a device whose memory is the GPU's, and a backend that queues every operation on one stream.
/// A program built without CUDA has these functions too (src/backend/no_cuda): it then has no GPU.

#include <memory>
#include <string>
#include <vector>

#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// Why no GPU can be used, in one sentence: built without CUDA, no driver, no GPU, or one that is too old. Empty when
/// there is one.
std::string why_no_cuda();

/// GPU 0 of those that CUDA_VISIBLE_DEVICES leaves visible. Throws Error with why_no_cuda() when there is none.
std::unique_ptr<Device> make_cuda_device();

/// Queues operations on the stream of `device`, which make_cuda_device made and which must outlive it. The same
/// operation on the same values gives the same bits. A fault on the GPU surfaces as an Error at a later operation or
/// wait.
std::unique_ptr<Backend> make_cuda_backend(Device& device);

/// Which kernels products and attention may use. A path that cannot take a shape or this GPU leaves it to the next one:
/// hopper to tensor, tensor to simt. `automatic` also uses cuBLASLt.
enum class CudaPath {
  automatic,
  simt,    ///< any types and alignments, f32 arithmetic
  tensor,  ///< tensor cores as every supported GPU has them
  hopper,  ///< those of compute capability 9.0 alone
};
const char* name(CudaPath path);

/// For tests: what operations queued from now on use, of every backend in this process.
void force_cuda_path(CudaPath path);

/// For tests: as if the GPU had so many multiprocessors (0: as many as it has) when a kernel is started whose blocks
/// take part after part of the work, so that a small case makes each of them take several.
void force_cuda_processors(int count);

/// Operations that ran on slower kernels than those meant for them, and why: "gemm: ...", each once, since the program
/// started.
std::vector<std::string> cuda_slow_paths();

/// How many products of this process ended in the activation that follows them (ops/expert_rows.h).
int64_t cuda_fused_products();

/// What make_cuda_backend will hold beside the planned arenas (library workspaces), in bytes; needs no GPU.
int64_t cuda_workspace_bytes();

}  // namespace moe
