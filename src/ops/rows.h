#pragma once
/// Operations on single rows: normalisation, SwiGLU, rotary positions, residual sums. T rows (tokens, or rows sorted by
/// expert), D hidden size, F width. stat = f32, or f64 beside f64 data.

#include "ops/fields.h"

namespace moe {

/// docs/paper.md eq. (1)-(2): sum = x + residual (if there is no residual, the input is x itself),
///   inv_rms = 1 / sqrt(mean(sum^2) + eps),   y = gain * cast(sum * inv_rms)
/// The statistics are in stat precision, and `cast` converts to y's type before the gain is applied, as in the released
/// code.
struct RmsNorm {
  View x;              ///< [T, D]
  View residual = {};  ///< [T, D]
  View sum = {};       ///< [T, D], present exactly when residual is
  View gain;           ///< [D]
  float eps;
  View y;        ///< [T, D]
  View inv_rms;  ///< stat [T]

  static constexpr const char* name = "rms_norm";
  static constexpr auto fields() {
    return std::array{in("x", &RmsNorm::x),
                      in("residual", &RmsNorm::residual).or_absent(),
                      out("sum", &RmsNorm::sum).or_absent().may_be("x"),
                      in("gain", &RmsNorm::gain),
                      out("y", &RmsNorm::y),
                      out("inv_rms", &RmsNorm::inv_rms)};
  }
};

/// dx += inv_rms * (gain * dy - n * mean(n * gain * dy)),  dgain += sum over rows of dy * n,  n = x * inv_rms.
/// Adding to dx lets the residual stream's gradient flow through it.
struct RmsNormBackward {
  View dy;       ///< [T, D]
  View x;        ///< [T, D]: RmsNorm's sum, or its x without a residual
  View gain;     ///< [D]
  View inv_rms;  ///< stat [T]
  View dx;       ///< [T, D]
  View dgain;    ///< stat [D]

  static constexpr const char* name = "rms_norm_backward";
  static constexpr auto fields() {
    return std::array{in("dy", &RmsNormBackward::dy),     in("x", &RmsNormBackward::x),
                      in("gain", &RmsNormBackward::gain), in("inv_rms", &RmsNormBackward::inv_rms),
                      inout("dx", &RmsNormBackward::dx),  inout("dgain", &RmsNormBackward::dgain)};
  }
};

/// y = scale(r) * silu(gate) * up,  gate_up = [gate | up],  silu(z) = z / (1 + exp(-z)),
/// scale(r) = scale[scale_index[r]] where given, else 1. A gate factor here makes g * FFN(x) without keeping FFN(x).
struct SwiGlu {
  View gate_up;           ///< [T, 2F]
  View scale = {};        ///< stat [S]
  View scale_index = {};  ///< i32 [T], present exactly when scale is
  View row_count = {};    ///< i32 [1]: only rows below it are computed, the others are not changed
  View y;                 ///< [T, F]

  static constexpr const char* name = "swiglu";
  static constexpr auto fields() {
    return std::array{in("gate_up", &SwiGlu::gate_up), in("scale", &SwiGlu::scale).or_absent(),
                      in("scale_index", &SwiGlu::scale_index).or_absent(),
                      in("row_count", &SwiGlu::row_count).or_absent(), partial("y", &SwiGlu::y)};
  }
};

/// With s = scale(r), a = silu(gate) * up:
///   d_gate = s dy up silu'(gate),  d_up = s dy silu(gate),  y = s a (SwiGlu's output again),
///   d_scale[scale_index[r]] = sum over the row of dy * a.
struct SwiGluBackward {
  View gate_up;           ///< [T, 2F]
  View scale = {};        ///< stat [S]
  View scale_index = {};  ///< i32 [T], distinct values
  View row_count = {};    ///< i32 [1], as in SwiGlu
  View dy;                ///< [T, F]
  View d_gate_up;         ///< [T, 2F], may be gate_up itself
  View y = {};            ///< [T, F], may be dy itself
  View d_scale = {};      ///< stat [S], present exactly when scale is; elements that no row names are not changed

  static constexpr const char* name = "swiglu_backward";
  static constexpr auto fields() {
    return std::array{in("gate_up", &SwiGluBackward::gate_up),
                      in("scale", &SwiGluBackward::scale).or_absent(),
                      in("scale_index", &SwiGluBackward::scale_index).or_absent(),
                      in("row_count", &SwiGluBackward::row_count).or_absent(),
                      in("dy", &SwiGluBackward::dy),
                      partial("d_gate_up", &SwiGluBackward::d_gate_up).may_be("gate_up"),
                      partial("y", &SwiGluBackward::y).or_absent().may_be("dy"),
                      partial("d_scale", &SwiGluBackward::d_scale).or_absent()};
  }
};

/// table[t] = [cos(angle_0) .. cos(angle_{h/2-1}) | sin(angle_0) ..],  angle_j = positions[t] * theta^(-2j/h),
/// the angle in double precision.
struct RopeTable {
  View positions;  ///< i32 [T]
  double theta;
  View table;  ///< stat [T, h], h even

  static constexpr const char* name = "rope_table";
  static constexpr auto fields() {
    return std::array{in("positions", &RopeTable::positions), out("table", &RopeTable::table)};
  }
};

/// Rotates each head of x in place, in the "rotate half" layout (docs/paper.md section 1): (x1, x2) -> (x1 c - x2 s, x2
/// c + x1 s). `inverse` rotates back, which is the backward pass.
struct Rope {
  View x;      ///< [T, heads * h]
  View table;  ///< stat [T, h]
  bool inverse = false;

  static constexpr const char* name = "rope";
  static constexpr auto fields() { return std::array{inout("x", &Rope::x), in("table", &Rope::table)}; }
};

/// y += x.
struct Add {
  View x;  ///< [T, D]
  View y;  ///< [T, D]

  static constexpr const char* name = "add";
  static constexpr auto fields() { return std::array{in("x", &Add::x), inout("y", &Add::y)}; }
};

void check(const RmsNorm& op);
void check(const RmsNormBackward& op);
void check(const SwiGlu& op);
void check(const SwiGluBackward& op);
void check(const RopeTable& op);
void check(const Rope& op);
void check(const Add& op);

}  // namespace moe
