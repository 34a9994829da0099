#pragma once
/// The kernels that products and attention may use, and what tests ask of them. Any thread may call these functions. A
/// program without CUDA has those outside namespace cuda too (src/backend/no_cuda).

namespace moe {

/// If a path does not support a shape or this GPU, the next one is
/// used: tensor after hopper, simt after tensor. `automatic` also uses cuBLASLt.
enum class CudaPath {
  automatic,
  simt,    ///< any types and alignments, f32 arithmetic
  tensor,  ///< tensor cores of every supported GPU
  hopper,  ///< tensor cores of compute capability 9.0 only
};
const char* name(CudaPath path);

/// For tests: sets the path of all operations that are queued from now on, for every backend of this process.
void force_cuda_path(CudaPath path);

/// For tests: pretends that the GPU has `count` multiprocessors (0: the real number) when a kernel is started whose
/// blocks take part after part of the work. So in a small case each block takes several parts.
void force_cuda_processors(int count);

namespace cuda {

/// What force_cuda_path asked for.
CudaPath product_path();
/// What force_cuda_processors asked for; 0: nothing.
int forced_processors();

}  // namespace cuda
}  // namespace moe
