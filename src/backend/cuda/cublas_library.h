#pragma once
/// cuBLASLt, loaded when the first GPU is opened. If it were linked to the program, every run, even without a GPU,
/// would cost 60 ms and 200 MB of relocations, and the program would not start where cuBLASLt is not installed.

#include <cublasLt.h>

namespace moe::cuda {

/// The functions of the library, by their names without its prefix.
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

/// Loads it at the first call. An Error says where it was searched. Any thread may call it.
const CublasLibrary& cublas();

}  // namespace moe::cuda
