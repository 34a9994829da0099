#pragma once
/// Matrix products. Each operand may be f32 or bf16 (or all f64). Sums are in f32 (f64). The sum over the reduced
/// dimension has one order, for any number of rows.

#include "ops/fields.h"

namespace moe {

/// c = op(a) op(b). With `accumulate` the result is added to c. A linear layer x W^T is {.a = x, .b = W, .transpose_b =
/// true}.
struct Gemm {
  View a;  ///< [M, K], or [K, M] with transpose_a
  View b;  ///< [K, N], or [N, K] with transpose_b
  View c;  ///< [M, N]
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;

  static constexpr const char* name = "gemm";
  static constexpr auto fields() { return std::array{in("a", &Gemm::a), in("b", &Gemm::b), inout("c", &Gemm::c)}; }
};

/// One product for each expert over its block of rows. For r in [offsets[e], offsets[e + 1]):
///   c[r] = a[index(r)] b[e]   (b[e]^T with transpose_b),   index(r) = a_rows[r] where given, else r.
/// With `accumulate` the result is added to c. Rows from offsets[E] on belong to no expert and are not changed. An
/// expert may have no rows.
struct GroupedGemm {
  View a;            ///< [A, K]
  View a_rows = {};  ///< i32 [R], values in [0, A); absent: A = R
  View offsets;      ///< i32 [E + 1], rising from 0 to at most R; on the device
  View b;            ///< [E, K, N], or [E, N, K] with transpose_b
  View c;            ///< [R, N]
  bool transpose_b = false;
  bool accumulate = false;

  static constexpr const char* name = "grouped_gemm";
  static constexpr auto fields() {
    return std::array{in("a", &GroupedGemm::a), in("a_rows", &GroupedGemm::a_rows).or_absent(),
                      in("offsets", &GroupedGemm::offsets), in("b", &GroupedGemm::b), partial("c", &GroupedGemm::c)};
  }
};

/// What c holds is read, too, if the result is added to it.
inline int64_t traffic_bytes(const GroupedGemm& op) {
  return traffic_bytes<GroupedGemm>(op) + (op.accumulate ? static_cast<int64_t>(op.c.bytes()) : 0);
}

/// The weight gradients of GroupedGemm: for each expert, a product that sums over its rows:
///   c[e] (+)= sum over r in [offsets[e], offsets[e + 1]) of a[ia(r)]^T b[ib(r)].
/// An expert without rows gets zeros; with `accumulate` it keeps its values. If `squares` is given, the sum of the
/// squares of c's new values is added to it. A backend may add a few of them in f32 before it adds in f64.
struct GroupedGemmReduce {
  View a;             ///< [A, M]
  View a_rows = {};   ///< i32 [R]; absent: A = R
  View b;             ///< [B, N]
  View b_rows = {};   ///< i32 [R]; absent: B = R
  View offsets;       ///< i32 [E + 1]
  View c;             ///< [E, M, N]; with `squares` stat and contiguous
  View squares = {};  ///< f64 [1]
  bool accumulate = false;

  static constexpr const char* name = "grouped_gemm_reduce";
  static constexpr auto fields() {
    return std::array{in("a", &GroupedGemmReduce::a),
                      in("a_rows", &GroupedGemmReduce::a_rows).or_absent(),
                      in("b", &GroupedGemmReduce::b),
                      in("b_rows", &GroupedGemmReduce::b_rows).or_absent(),
                      in("offsets", &GroupedGemmReduce::offsets),
                      inout("c", &GroupedGemmReduce::c),
                      inout("squares", &GroupedGemmReduce::squares).or_absent()};
  }
};

void check(const Gemm& op);
void check(const GroupedGemm& op);
void check(const GroupedGemmReduce& op);

/// Multiplications and additions of the products. For the grouped ones, as if every row belonged to an expert.
int64_t flops(const Gemm& op);
int64_t flops(const GroupedGemm& op);
int64_t flops(const GroupedGemmReduce& op);

}  // namespace moe
