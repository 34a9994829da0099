#pragma once
/// Fills, conversions, and the arithmetic of the optimiser. Views may have any shape but must be contiguous.

#include "ops/fields.h"

namespace moe {

/// x = value (integers: its integer part).
struct Fill {
  View x;
  double value;

  static constexpr const char* name = "fill";
  static constexpr auto fields() { return std::array{out("x", &Fill::x)}; }
};

/// y = x, converted between float types (rounded to nearest, ties to even); same number of elements.
struct Cast {
  View x;
  View y;

  static constexpr const char* name = "cast";
  static constexpr auto fields() { return std::array{in("x", &Cast::x), out("y", &Cast::y)}; }
};

/// sum += sum of x^2, accumulated in f64. The order of the sum does not depend on threads.
struct SumSquares {
  View x;    ///< stat
  View sum;  ///< f64 [1]

  static constexpr const char* name = "sum_squares";
  static constexpr auto fields() { return std::array{in("x", &SumSquares::x), inout("sum", &SumSquares::sum)}; }
};

/// norm = sqrt(sum_squares), scale = min(1, max_norm / (norm + 1e-6)); max_norm = 0 gives scale 1 (no clipping). If the
/// norm is not finite in f32, the scale is NaN, and AdamW then changes nothing.
struct ClipScale {
  View sum_squares;  ///< f64 [1]
  float max_norm;
  View norm;   ///< stat [1]
  View scale;  ///< stat [1]

  static constexpr const char* name = "clip_scale";
  static constexpr auto fields() {
    return std::array{in("sum_squares", &ClipScale::sum_squares), out("norm", &ClipScale::norm),
                      out("scale", &ClipScale::scale)};
  }
};

/// y = y_factor y + x_factor x_scale x, where an absent x_scale is 1. If x_scale or guard is given and not finite, y
/// keeps its bits.
struct Blend {
  View x;             ///< f32, bf16 or f64
  View x_scale = {};  ///< stat [1]
  View guard = {};    ///< stat [1]
  View y;             ///< f32, bf16 or f64; as many elements as x
  float x_factor;
  float y_factor;

  static constexpr const char* name = "blend";
  static constexpr auto fields() {
    return std::array{in("x", &Blend::x), in("x_scale", &Blend::x_scale).or_absent(),
                      in("guard", &Blend::guard).or_absent(), inout("y", &Blend::y)};
  }
};

/// y_m = x_m / max(|x_m|, eps) for each of M matrices, where |x_m| is the root of the sum of squares. The sum is in
/// f64, and its order does not depend on threads.
struct UnitMatrices {
  View x;  ///< stat [M, R, C]
  View y;  ///< [M, R, C]
  float eps;

  static constexpr const char* name = "unit_matrices";
  static constexpr auto fields() { return std::array{in("x", &UnitMatrices::x), out("y", &UnitMatrices::y)}; }
};

/// One AdamW step (Loshchilov and Hutter) on a parameter, with g = gradient_scale * gradient:
///   exp_avg = b1 exp_avg + (1 - b1) g,  exp_avg_sq = b2 exp_avg_sq + (1 - b2) g^2,
///   p = p (1 - lr weight_decay) - lr (exp_avg / (1 - b1^step)) / (sqrt(exp_avg_sq / (1 - b2^step)) + eps)
/// The step changes `master` if it is given, and param becomes its rounded copy. A gradient_scale that is not finite
/// changes no bit.
struct AdamW {
  View param;           ///< f32, bf16 or f64
  View master = {};     ///< stat; present when param is of another type
  View gradient;        ///< stat
  View exp_avg;         ///< stat
  View exp_avg_sq;      ///< stat
  View gradient_scale;  ///< stat [1]
  float learning_rate;
  float beta1;
  float beta2;
  float eps;
  float weight_decay;
  int64_t step;  ///< from 1

  static constexpr const char* name = "adamw";
  static constexpr auto fields() {
    return std::array{inout("param", &AdamW::param),           inout("master", &AdamW::master).or_absent(),
                      in("gradient", &AdamW::gradient),        inout("exp_avg", &AdamW::exp_avg),
                      inout("exp_avg_sq", &AdamW::exp_avg_sq), in("gradient_scale", &AdamW::gradient_scale)};
  }
};

/// A parameter beside its master is written alone.
inline int64_t traffic_bytes(const AdamW& op) {
  return traffic_bytes<AdamW>(op) - (op.master ? static_cast<int64_t>(op.param.bytes()) : 0);
}

void check(const Fill& op);
void check(const Cast& op);
void check(const SumSquares& op);
void check(const ClipScale& op);
void check(const Blend& op);
void check(const UnitMatrices& op);
void check(const AdamW& op);

}  // namespace moe
