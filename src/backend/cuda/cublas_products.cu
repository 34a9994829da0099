#include <algorithm>

#include "backend/cuda/cublas_library.h"
#include "backend/cuda/cublas_parts.h"
#include "backend/cuda/cublas_products.h"
#include "backend/cuda/storage.h"
#include "base/error.h"

namespace moe::cuda {
namespace {

void check(cublasStatus_t status, const char* attempted) {
  if (status != CUBLAS_STATUS_SUCCESS) fail("{} failed in cuBLASLt: {}", attempted, cublas().GetStatusString(status));
}

cudaDataType_t type_of(const View& view) { return is_bf16(view) ? CUDA_R_16BF : CUDA_R_32F; }

/// The largest power of two up to 256 that divides an address.
int alignment_of(const void* address) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  return value == 0 ? 256 : static_cast<int>(std::min<uintptr_t>(value & (~value + 1), 256));
}

/// The matrices of a product in the form of the library, which stores them by columns: it computes c^T = b^T a^T.
struct Layouts {
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;

  explicit Layouts(const Gemm& op) {
    describe(a, op.b);
    describe(b, op.a);
    describe(c, op.c);
  }
  Layouts(const Layouts&) = delete;
  Layouts& operator=(const Layouts&) = delete;
  ~Layouts() {
    for (cublasLtMatrixLayout_t layout : {a, b, c}) {
      if (layout != nullptr) cublas().MatrixLayoutDestroy(layout);
    }
  }

 private:
  static void describe(cublasLtMatrixLayout_t& result, const View& view) {
    // A single row or column may have any stride; the library requires one that fits.
    const int64_t step = std::max(view.stride[0], view.size(1));
    check(cublas().MatrixLayoutCreate(&result, type_of(view), static_cast<uint64_t>(view.size(1)),
                                      static_cast<uint64_t>(view.size(0)), step),
          "describing a matrix");
  }
};

/// What this thread's products are parts of; null: nothing.
thread_local const Gemm* part_of = nullptr;

}  // namespace

/// A product in the form of the library.
struct CublasProducts::Plan {
  cublasLtMatmulDesc_t product = nullptr;
  Layouts matrices;
  cublasLtMatmulAlgo_t algorithm{};
  bool found = false;

  explicit Plan(const Gemm& op) : matrices(op) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (product != nullptr) cublas().MatmulDescDestroy(product);
  }
};

CublasProducts::CublasProducts() { check(cublas().Create(&handle_), "starting the library"); }

CublasProducts::~CublasProducts() {
  plans_.clear();
  cublas().Destroy(handle_);
}

const CublasProducts::Plan& CublasProducts::plan_for(const Gemm& op, size_t workspace_bytes) {
  const Gemm& whole = part_of != nullptr ? *part_of : op;
  const int64_t k = op.a.size(op.transpose_a ? 0 : 1);
  const int flags = (op.transpose_a ? 1 : 0) | (op.transpose_b ? 2 : 0) | (is_bf16(op.a) ? 4 : 0) |
                    (is_bf16(op.c) ? 8 : 0) | (op.accumulate ? 16 : 0);
  const int align_a = alignment_of(op.a.data), align_b = alignment_of(op.b.data), align_c = alignment_of(op.c.data);
  const int alignments = align_a + 1024 * align_b + 1024 * 1024 * align_c;
  // Two numbers in one: the columns of this part (fewer than 2^31), and above them the columns of the whole product.
  const int64_t columns = op.c.size(1) + (whole.c.size(1) << 32);
  const Key key{op.c.size(0),   columns, k,          op.a.stride[0], op.b.stride[0],
                op.c.stride[0], flags,   alignments, workspace_bytes};
  if (const auto known = plans_.find(key); known != plans_.end()) return *known->second;
  auto made =
      std::make_unique<Plan>(op);  // stored only when it is complete: a later call must not use an incomplete one
  Plan& plan = *made;

  check(cublas().MatmulDescCreate(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  const cublasOperation_t of_a = op.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t of_b = op.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(cublas().MatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, &of_b, sizeof(of_b)), "transposing");
  check(cublas().MatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, &of_a, sizeof(of_a)), "transposing");
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublas().MatmulPreferenceCreate(&preference), "stating a preference");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublas().MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), "stating a preference");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_bytes});
  // Parts of the reduced dimension may be summed separately, but in f32: sums in c's own bf16 would round once per
  // part.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(align_b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(align_a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(align_c));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(align_c));
  cublasLtMatmulHeuristicResult_t result{};
  int count = 0;
  const Layouts all(whole);
  const cublasStatus_t status = cublas().MatmulAlgoGetHeuristic(handle_, plan.product, all.a, all.b, all.c, all.c,
                                                                preference, 1, &result, &count);
  cublas().MatmulPreferenceDestroy(preference);
  plan.found = status == CUBLAS_STATUS_SUCCESS && count > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  plan.algorithm = result.algo;
  return *plans_.emplace(key, std::move(made)).first->second;
}

bool CublasProducts::run(const Gemm& op, cudaStream_t stream, const Workspace& workspace) {
  if (op.a.dtype != op.b.dtype || (op.a.dtype == DType::f32 && op.c.dtype != DType::f32)) return false;
  const auto run_plan = [&] {
    const Plan& plan = plan_for(op, workspace.bytes);
    if (!plan.found) return false;
    const float one = 1, old = op.accumulate ? 1.0f : 0.0f;
    const Layouts& m = plan.matrices;
    const cublasStatus_t status =
        cublas().Matmul(handle_, plan.product, &one, op.b.data, m.a, op.a.data, m.b, &old, op.c.data, m.c, op.c.data,
                        m.c, &plan.algorithm, workspace.data, workspace.bytes, stream);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return false;
    check(status, "a product");
    return true;
  };
  if (run_plan()) return true;
  if (part_of == nullptr) return false;
  const PartOf alone(op);  // the algorithm for all columns does not take some of them
  return run_plan();
}

PartOf::PartOf(const Gemm& whole) : before_(part_of) { part_of = &whole; }
PartOf::~PartOf() { part_of = before_; }

}  // namespace moe::cuda
