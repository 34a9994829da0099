#pragma once
/// The step from a row of logits to the next pass, on the device. T rows (sequences), V vocabulary, N steps that the
/// log has room for.

#include "ops/fields.h"

namespace moe {

/// Chooses the most likely token of each row: the largest logit, and among equal ones the lowest id.
///   ids[t] = that token; -1 if no logit is above -infinity, or one of them is NaN or +infinity
///   positions[t] += 1,   log[steps[t], t] = ids[t],   steps[t] += 1
/// Tokens with allowed[v] = 0 do not take part. When the log is full, nothing is written to it.
struct NextToken {
  View logits;        ///< stat [T, V]
  View allowed = {};  ///< i32 [V]; absent: all take part
  View ids;           ///< i32 [T]
  View positions;     ///< i32 [T]
  View log;           ///< i32 [N, T]
  View steps;         ///< i32 [T], not negative

  static constexpr const char* name = "next_token";
  static constexpr auto fields() {
    return std::array{in("logits", &NextToken::logits), in("allowed", &NextToken::allowed).or_absent(),
                      out("ids", &NextToken::ids),      inout("positions", &NextToken::positions),
                      partial("log", &NextToken::log),  inout("steps", &NextToken::steps)};
  }
};

void check(const NextToken& op);

}  // namespace moe
