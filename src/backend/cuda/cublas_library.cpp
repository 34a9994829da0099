#include "backend/cuda/cublas_library.h"

#include <string>

#include <dlfcn.h>

#include "base/error.h"

namespace moe::cuda {
namespace {

/// The version that this program was compiled for, wherever the system searches for libraries; otherwise the file
/// beside the compiler.
void* open_library() {
  const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  const std::string reason = dlerror();
  if (void* library = dlopen(MOE_CUBLASLT_FILE, RTLD_NOW | RTLD_LOCAL)) return library;
  fail("cannot load {} ({}) nor {}: install CUDA {}'s cuBLAS, name its folder in LD_LIBRARY_PATH, or use --device cpu",
       name, reason, MOE_CUBLASLT_FILE, CUBLAS_VER_MAJOR);
}

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) fail("cuBLASLt has no function {}: install the one of CUDA {}", name, CUBLAS_VER_MAJOR);
}

CublasLibrary load() {
  void* const library = open_library();  // stays until the process ends
  CublasLibrary c{};
  find(library, "cublasLtGetStatusString", c.GetStatusString);
  find(library, "cublasLtCreate", c.Create);
  find(library, "cublasLtDestroy", c.Destroy);
  find(library, "cublasLtMatmul", c.Matmul);
  find(library, "cublasLtMatmulAlgoGetHeuristic", c.MatmulAlgoGetHeuristic);
  find(library, "cublasLtMatmulDescCreate", c.MatmulDescCreate);
  find(library, "cublasLtMatmulDescDestroy", c.MatmulDescDestroy);
  find(library, "cublasLtMatmulDescSetAttribute", c.MatmulDescSetAttribute);
  find(library, "cublasLtMatmulPreferenceCreate", c.MatmulPreferenceCreate);
  find(library, "cublasLtMatmulPreferenceDestroy", c.MatmulPreferenceDestroy);
  find(library, "cublasLtMatmulPreferenceSetAttribute", c.MatmulPreferenceSetAttribute);
  find(library, "cublasLtMatrixLayoutCreate", c.MatrixLayoutCreate);
  find(library, "cublasLtMatrixLayoutDestroy", c.MatrixLayoutDestroy);
  return c;
}

}  // namespace

const CublasLibrary& cublas() {
  static const CublasLibrary library = load();
  return library;
}

}  // namespace moe::cuda
