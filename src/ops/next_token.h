#pragma once
/// The step from a row of logits to the next pass, on the device. T rows, S sequences, V vocabulary.

#include "ops/fields.h"
#include "ops/sampling.h"

namespace moe {

/// Chooses the next token of each row, as its draw says (SamplingOptions; the index of the draw is positions[t] + 1).
///   chosen[t] = that token; -1 if no logit is above -infinity, or one of them is NaN or +infinity
///   ids[t] = chosen[t], but 0 for -1, so that another pass can read it;   positions[t] += 1
///   counts[sequence[t], chosen[t]] += 1
/// Logits that become equal, or no numbers, by a penalty count as such. Tokens with allowed[v] = 0 do not take part.
/// Backends may compute weights and their sums with rounding of their own, so that a draw which is next to the boundary
/// of two tokens may give the other one. At temperature 0 the choice is exact.
struct NextToken {
  View logits;        ///< stat [T, V]
  View allowed = {};  ///< i32 [V]; absent: all take part
  View draws = {};    ///< i32 [T, kDrawWords]: words_of(TokenDraw); absent: temperature 0 without penalties
  View counts = {};   ///< i32 [S, V]: how often each token is in each sequence; absent: there are no penalties
  View sequence =
      {};          ///< i32 [T], below S, no two rows the same; -1: the row is not used. Absent: row t is of sequence t
  View ids;        ///< i32 [T]; 0 for rows that are not used
  View positions;  ///< i32 [T], not negative; rows that are not used keep theirs
  View chosen;     ///< i32 [T]; -1 for rows that are not used

  static constexpr const char* name = "next_token";
  static constexpr auto fields() {
    return std::array{in("logits", &NextToken::logits),
                      in("allowed", &NextToken::allowed).or_absent(),
                      in("draws", &NextToken::draws).or_absent(),
                      inout("counts", &NextToken::counts).or_absent(),
                      in("sequence", &NextToken::sequence).or_absent(),
                      out("ids", &NextToken::ids),
                      inout("positions", &NextToken::positions),
                      out("chosen", &NextToken::chosen)};
  }
};

void check(const NextToken& op);

/// Each row reads and writes its own row of the counts, which there may be many of.
int64_t traffic_bytes(const NextToken& op);

}  // namespace moe
