#pragma once
/// cuBLASLt, loaded when the first GPU is opened. Linked to the program it would cost every run, those without a GPU
/// too, 60 ms and 200 MB of relocations, and the program would not start where it is not installed.

#include <cublasLt.h>

namespace moe::cuda {

/// The library's functions, by their names without its prefix.
struct CublasLibrary {
  decltype(&cublasLtGetStatusString) GetStatusString;
  decltype(&cublasLtCreate) Create;
  decltype(&cublasLtDestroy) Destroy;
  decltype(&cublasLtMatmul) Matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) MatmulAlgoGetHeuristic;
  decltype(&cublasLtMatmulDescCreate) MatmulDescCreate;
  decltype(&cublasLtMatmulDescDestroy) MatmulDescDestroy;
  decltype(&cublasLtMatmulDescSetAttribute) MatmulDescSetAttribute;
  decltype(&cublasLtMatmulPreferenceCreate) MatmulPreferenceCreate;
  decltype(&cublasLtMatmulPreferenceDestroy) MatmulPreferenceDestroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) MatmulPreferenceSetAttribute;
  decltype(&cublasLtMatrixLayoutCreate) MatrixLayoutCreate;
  decltype(&cublasLtMatrixLayoutDestroy) MatrixLayoutDestroy;
};

/// Loads it at the first call; an Error says where it was looked for. Any thread.
const CublasLibrary& cublas();

}  // namespace moe::cuda
