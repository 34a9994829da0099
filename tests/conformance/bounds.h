#pragma once
/// How far a backend may be from the oracle: forward error bounds of each operation in f32 arithmetic, element by
/// element. u = 2^-24 is f32's unit roundoff. A sum of n products may be off by growth(n) u times the sum of their
/// absolute values: the worst case n, or the 4 sqrt(n) that rounding errors of independent signs do not exceed (Higham
/// and Mary, 2019), whichever is less. The final rounding to the output's own type is not part of these bounds: it is
/// allowed in addition.

#include <map>
#include <string>

#include "ops/backend.h"
#include "tests/oracle/array.h"

namespace moe::conformance {

using oracle::Indices;
using oracle::Reals;

constexpr double kU = 0x1p-24;

/// The unit roundoff of a type.
double unit(DType dtype);
double growth(int64_t terms);

/// Absolute tolerances by field. A field without one must equal the reference exactly, after rounding to its type.
using Bounds = std::map<std::string, Reals>;

/// How a backend computes.
enum class Arithmetic {
  plain,   ///< everything between inputs and outputs in f32
  tensor,  ///< products of bf16 operands on tensor cores: attention rounds what it multiplies again to bf16 in between,
           ///< and weights in blocks beside bf16 may be rounded to bf16
  bytes,   ///< products with weights in blocks round the rows beside them to 8 bits, in groups of 32; else plain
  pairs,   ///< as bytes; and as tensor for products of pairs of bf16 on a CPU, in cached attention too
};

/// One run of an operation: its types as given, and the oracle's f64 views before and after.
template <class Op>
struct Reference {
  const Op& given;
  const Op& before;
  const Op& after;
  Arithmetic arithmetic = Arithmetic::plain;
};

Bounds bounds(const Reference<Gemm>& run);
Bounds bounds(const Reference<GroupedGemm>& run);
Bounds bounds(const Reference<GroupedGemmReduce>& run);

Bounds bounds(const Reference<RmsNorm>& run);
Bounds bounds(const Reference<RmsNormBackward>& run);
Bounds bounds(const Reference<SwiGlu>& run);
Bounds bounds(const Reference<SwiGluBackward>& run);
Bounds bounds(const Reference<RopeTable>& run);
Bounds bounds(const Reference<Rope>& run);
Bounds bounds(const Reference<Add>& run);

Bounds bounds(const Reference<Attention>& run);
Bounds bounds(const Reference<AttentionBackward>& run);
Bounds bounds(const Reference<KvAppend>& run);
Bounds bounds(const Reference<CachedAttention>& run);

Bounds bounds(const Reference<Embed>& run);
Bounds bounds(const Reference<EmbedBackward>& run);
Bounds bounds(const Reference<CrossEntropy>& run);
Bounds bounds(const Reference<NextToken>& run);

Bounds bounds(const Reference<RouterScores>& run);
Bounds bounds(const Reference<RouterTopk>& run);
Bounds bounds(const Reference<RouterGates>& run);
Bounds bounds(const Reference<RoutePlan>& run);
Bounds bounds(const Reference<RowsCombine>& run);
Bounds bounds(const Reference<RowsGather>& run);
Bounds bounds(const Reference<RouterBackward>& run);

Bounds bounds(const Reference<RouterCounts>& run);
Bounds bounds(const Reference<BalanceCoefficients>& run);
Bounds bounds(const Reference<BalanceLoss>& run);
Bounds bounds(const Reference<GateLoss>& run);
Bounds bounds(const Reference<RouterZLoss>& run);
Bounds bounds(const Reference<ExpertSums>& run);
Bounds bounds(const Reference<VariationLoss>& run);
Bounds bounds(const Reference<BiasUpdate>& run);

Bounds bounds(const Reference<RouterDrop>& run);
Bounds bounds(const Reference<RouterJitter>& run);
Bounds bounds(const Reference<Dropout>& run);
Bounds bounds(const Reference<RouterNoise>& run);
Bounds bounds(const Reference<NoiseLoad>& run);
Bounds bounds(const Reference<NoiseBackward>& run);
Bounds bounds(const Reference<TableRoute>& run);
Bounds bounds(const Reference<ExpertChoice>& run);
Bounds bounds(const Reference<Distillation>& run);

Bounds bounds(const Reference<Fill>& run);
Bounds bounds(const Reference<Cast>& run);
Bounds bounds(const Reference<SumSquares>& run);
Bounds bounds(const Reference<ClipScale>& run);
Bounds bounds(const Reference<Blend>& run);
Bounds bounds(const Reference<UnitMatrices>& run);
Bounds bounds(const Reference<AdamW>& run);

}  // namespace moe::conformance
