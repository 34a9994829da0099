#include "backend/cuda/cublas_library.h"

#include <string>

#include <dlfcn.h>

#include "backend/cuda/library_function.h"
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

CublasLibrary load() {
  void* const library = open_library();  // stays until the process ends
  CublasLibrary c{};
  const auto find = [&](const char* name, auto& function) {
    find_function(library, name, fmt::format("the cuBLAS of CUDA {}", CUBLAS_VER_MAJOR), function);
  };
  find("cublasLtGetStatusString", c.GetStatusString);
  find("cublasLtCreate", c.Create);
  find("cublasLtDestroy", c.Destroy);
  find("cublasLtMatmul", c.Matmul);
  find("cublasLtMatmulAlgoGetHeuristic", c.MatmulAlgoGetHeuristic);
  find("cublasLtMatmulDescCreate", c.MatmulDescCreate);
  find("cublasLtMatmulDescDestroy", c.MatmulDescDestroy);
  find("cublasLtMatmulDescSetAttribute", c.MatmulDescSetAttribute);
  find("cublasLtMatmulPreferenceCreate", c.MatmulPreferenceCreate);
  find("cublasLtMatmulPreferenceDestroy", c.MatmulPreferenceDestroy);
  find("cublasLtMatmulPreferenceSetAttribute", c.MatmulPreferenceSetAttribute);
  find("cublasLtMatrixLayoutCreate", c.MatrixLayoutCreate);
  find("cublasLtMatrixLayoutDestroy", c.MatrixLayoutDestroy);
  return c;
}

}  // namespace

const CublasLibrary& cublas() {
  static const CublasLibrary library = load();
  return library;
}

}  // namespace moe::cuda
