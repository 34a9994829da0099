// cuBLASLt is found where it lay when the program was built, without a GPU.

#include <gtest/gtest.h>

#include "backend/cuda/cublas_library.h"

namespace moe::cuda {
namespace {

TEST(CublasLibrary, IsLoadedAtTheFirstCall) {
  EXPECT_STREQ(cublas().GetStatusString(CUBLAS_STATUS_SUCCESS), "success");
  EXPECT_EQ(&cublas(), &cublas());
}

}  // namespace
}  // namespace moe::cuda
