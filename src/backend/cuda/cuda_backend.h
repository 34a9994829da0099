#pragma once
/// One NVIDIA GPU: a device with the GPU's memory, and a backend that queues every operation on one stream. A program
/// without CUDA has these functions too (src/backend/no_cuda); then there is no GPU.

#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/path.h"
#include "ops/backend.h"
#include "ops/communicator.h"
#include "ops/device.h"

namespace moe {

/// Why no GPU can be used, in one sentence: built without CUDA, no driver, no GPU, or a GPU that is too old. Empty if
/// one can be used.
std::string why_no_cuda();

/// How many GPUs CUDA_VISIBLE_DEVICES leaves visible; 0 if none can be used.
int cuda_gpus();

/// One of the visible GPUs, below cuda_gpus(). If there is none, throws an Error with why_no_cuda().
std::unique_ptr<Device> make_cuda_device(int gpu = 0);

/// Queues operations on the stream of `device`, which make_cuda_device made and which must outlive the backend. The
/// same operation on the same values gives the same bits. A fault on the GPU appears as an Error of a later operation
/// or wait.
std::unique_ptr<Backend> make_cuda_backend(Device& device);

/// What ranks with a GPU each say to each other (NCCL). `device` is this rank's, from make_cuda_device; `hosts` has the
/// same ranks and carries what is in the memory of the hosts. Both must outlive it. All ranks make it together.
std::unique_ptr<Communicator> make_cuda_communicator(Communicator& hosts, Device& device);

/// Operations that ran on slower kernels than intended, and the reasons: "gemm: ...", each once, since the program
/// started.
std::vector<std::string> cuda_slow_paths();

/// How many products of this process ended in the activation that follows them (ops/expert_rows.h) or in what adapters
/// add (ops/adapted_product.h).
int64_t cuda_fused_products();

/// What make_cuda_backend will hold beside the planned arenas (library workspaces), in bytes; needs no GPU.
int64_t cuda_workspace_bytes();

}  // namespace moe
