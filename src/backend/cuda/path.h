#pragma once
/// The kernels that products and attention may use, and what tests ask of them. Any thread may call these functions. A
/// program without CUDA has those outside namespace cuda too (src/backend/no_cuda).

#include <string_view>

namespace moe {

/// If a path does not support a shape or this GPU, the next one is
/// used: tensor after hopper, simt after tensor. `automatic` and `portable` also use cuBLASLt.
enum class CudaPath {
  automatic,
  simt,       ///< any types and alignments, f32 arithmetic
  tensor,     ///< tensor cores of every supported GPU
  hopper,     ///< tensor cores of compute capability 9.0 only
  portable,   ///< what a GPU takes for which no kernel was written specially: automatic without hopper
  invariant,  ///< as tensor; and a token has the same bits whatever other tokens a pass with a cache has
};

struct NamedCudaPath {
  CudaPath path;
  const char* name;
};
inline constexpr NamedCudaPath kCudaPaths[] = {{CudaPath::automatic, "automatic"}, {CudaPath::hopper, "hopper"},
                                               {CudaPath::portable, "portable"},   {CudaPath::tensor, "tensor"},
                                               {CudaPath::simt, "simt"},           {CudaPath::invariant, "invariant"}};

inline const char* name(CudaPath path) {
  for (const NamedCudaPath& known : kCudaPaths) {
    if (known.path == path) return known.name;
  }
  return "?";
}

/// For tests and measurements: sets the path of all operations that are queued from now on, for every backend of this
/// process.
void force_cuda_path(CudaPath path);
/// The same by a name of kCudaPaths, which must be one.
inline void force_cuda_path(std::string_view name) {
  for (const NamedCudaPath& known : kCudaPaths) {
    if (name == known.name) force_cuda_path(known.path);
  }
}

/// For tests: pretends that the GPU has `count` multiprocessors (0: the real number) when a kernel is started whose
/// blocks take part after part of the work. So in a small case each block takes several parts.
void force_cuda_processors(int count);

namespace cuda {

/// What force_cuda_path asked for.
CudaPath product_path();
/// Products may be cuBLASLt's.
bool may_use_library();
/// Kernels may be those for compute capability 9.0 only.
bool may_use_hopper();
/// What force_cuda_processors asked for; 0: nothing.
int forced_processors();

}  // namespace cuda
}  // namespace moe
