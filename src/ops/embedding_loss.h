#pragma once
/// The first and the last operations of the model: embedding and cross-entropy. V vocabulary.

#include "ops/fields.h"

namespace moe {

/// y[t] = table[tokens[t]].
struct Embed {
  View tokens;  ///< i32 [T], in [0, V)
  View table;   ///< [V, D]
  View y;       ///< [T, D]

  static constexpr const char* name = "embed";
  static constexpr auto fields() {
    return std::array{in("tokens", &Embed::tokens), in("table", &Embed::table), out("y", &Embed::y)};
  }
};

/// d_table[tokens[t]] += dy[t], in the order of t.
struct EmbedBackward {
  View tokens;   ///< i32 [T]
  View dy;       ///< [T, D]
  View d_table;  ///< stat [V, D]

  static constexpr const char* name = "embed_backward";
  static constexpr auto fields() {
    return std::array{in("tokens", &EmbedBackward::tokens), in("dy", &EmbedBackward::dy),
                      inout("d_table", &EmbedBackward::d_table)};
  }
};

/// row_loss[t] = weights[t] * (logsumexp(logits[t]) - logits[t, targets[t]]), 0 where targets[t] < 0 (ignored).
/// d_logits[t] = gradient_scale * weights[t] * (softmax(logits[t]) - onehot), zeros where ignored.
struct CrossEntropy {
  View logits;               ///< [T, V]
  View targets;              ///< i32 [T], in [0, V) or negative
  View weights = {};         ///< stat [T]; absent: 1 everywhere
  View gradient_scale = {};  ///< stat [1]: 1 / (the sum of the step's weights)
  View d_logits = {};        ///< [T, V], present exactly when gradient_scale is; may be logits itself
  View row_loss;             ///< stat [T]

  static constexpr const char* name = "cross_entropy";
  static constexpr auto fields() {
    return std::array{in("logits", &CrossEntropy::logits),
                      in("targets", &CrossEntropy::targets),
                      in("weights", &CrossEntropy::weights).or_absent(),
                      in("gradient_scale", &CrossEntropy::gradient_scale).or_absent(),
                      out("d_logits", &CrossEntropy::d_logits).or_absent().may_be("logits"),
                      out("row_loss", &CrossEntropy::row_loss)};
  }
};

void check(const Embed& op);
void check(const EmbedBackward& op);
void check(const CrossEntropy& op);

}  // namespace moe
