#pragma once
/// Kernels of a recorded step that start while the one before them still runs. Every kernel that is launched by
/// launch_early() calls wait_for_previous() in every block, before it reads what earlier operations wrote, before it
/// writes anything and before it ends. Then a finished kernel means that all earlier ones are finished too.
///
/// Two exceptions. What nothing in flight writes may be read before (Context::rests). And a kernel of a handover
/// (context.h) may wait for one earlier kernel by a flag, and read and write before the kernels between have ended; it
/// calls wait_for_previous() before it ends. A kernel starts only when all blocks of those before it have started, so
/// the one that it waits for has its place on the GPU already.

#include "backend/cuda/kernel.cuh"

namespace moe::cuda {

/// From here on the next kernel's blocks may start on multiprocessors that have room.
__device__ inline void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Returns when all earlier kernels have ended and what they wrote can be read; at once in a kernel that was not
/// launched early.
__device__ inline void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// A block's last step: it and what it wrote are counted. The whole block together.
__device__ inline void arrive(int* arrived) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(arrived, 1);
}

/// Returns when so many have arrived, and what they wrote can be read. The whole block together.
__device__ inline void await_arrivals(const int* arrived, int count) {
  if (threadIdx.x == 0) {
    int found = 0;
    do {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(found) : "l"(arrived) : "memory");
    } while (found < count);
    __threadfence();
  }
  __syncthreads();
}

/// What all kernels that overlap divide a multiprocessor's memory for: so much of it is shared memory, in percent.
constexpr int kSharedPart = 44;
/// Two blocks with so much shared memory fit into that on Hopper.
constexpr size_t kSharedOfTwo = 50176;

inline cudaLaunchAttribute starts_early() {
  cudaLaunchAttribute result{};
  result.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  result.val.programmaticStreamSerializationAllowed = 1;
  return result;
}
/// A multiprocessor divides its memory between cache and shared memory anew only when it is idle, which it never is
/// between kernels that overlap. With one division for all of them, as many blocks fit as alone.
inline cudaLaunchAttribute shared_part() {
  cudaLaunchAttribute result{};
  result.id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  result.val.sharedMemCarveout = kSharedPart;
  return result;
}

/// launch(); in a recording on Hopper and newer, the kernel may start early. What is queued before it must be a kernel.
/// `divided`: the kernel asks for the division of memory that others have, too.
template <class... Parameters, class... Args>
void launch_early(const Context& context, bool divided, void (*kernel)(Parameters...), dim3 grid, dim3 threads,
                  size_t shared_bytes, Args... args) {
  if (context.recording == nullptr || context.compute_capability < 90) {
    return launch(context, kernel, grid, threads, shared_bytes, args...);
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchAttribute attributes[2] = {starts_early(), shared_part()};
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.stream;
  config.attrs = attributes;
  config.numAttrs = divided ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), "starting a kernel");
}

/// The same; kernels without dynamic shared memory ask for the division.
template <class... Parameters, class... Args>
void launch_early(const Context& context, void (*kernel)(Parameters...), dim3 grid, dim3 threads, size_t shared_bytes,
                  Args... args) {
  launch_early(context, shared_bytes == 0, kernel, grid, threads, shared_bytes, args...);
}

/// launch() with clusters of `size` blocks, on Hopper alone; early where launch_early() would be. No dynamic shared
/// memory.
template <class... Parameters, class... Args>
void launch_early_clusters(const Context& context, int size, void (*kernel)(Parameters...), dim3 grid, dim3 threads,
                           Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchAttribute attributes[3] = {{}, starts_early(), shared_part()};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(size);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = threads;
  config.stream = context.stream;
  config.attrs = attributes;
  config.numAttrs = context.recording != nullptr ? 3 : 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), "starting a kernel");
}

}  // namespace moe::cuda
