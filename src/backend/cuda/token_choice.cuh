#pragma once
/// What a warp does for one token of a router: scores from logits, the choice of experts, and gates.

#include <climits>

#include "backend/cuda/kernel.cuh"
#include "ops/routing.h"

namespace moe::cuda {

constexpr float kNormalizeEps = 1e-20f;

__device__ inline int lane() { return static_cast<int>(threadIdx.x % kWarp); }

/// The sort key of a slot (RoutePlan): its expert's place among `experts` from `first` on, or `experts` for none.
__device__ inline int key_of(int id, int first, int experts) {
  return id >= first && id - first < experts ? id - first : experts;
}

/// Scores of a row of logits, which may be `v` itself. `log_sum` may be null.
__device__ inline void score_row(const float* logit, float* v, Scoring scoring, float* log_sum, int64_t width) {
  if (scoring != Scoring::softmax) {
    const bool plain = scoring == Scoring::none;
    for (int64_t i = lane(); i < width; i += kWarp) v[i] = plain ? logit[i] : 1 / (1 + expf(-logit[i]));
    return;
  }
  float largest = -INFINITY, sum = 0;
  for (int64_t i = lane(); i < width; i += kWarp) largest = fmaxf(largest, logit[i]);
  largest = warp_max(largest);
  for (int64_t i = lane(); i < width; i += kWarp) sum += expf(logit[i] - largest);
  sum = warp_sum(sum);
  for (int64_t i = lane(); i < width; i += kWarp) v[i] = expf(logit[i] - largest) / sum;
  if (log_sum != nullptr && lane() == 0) *log_sum = largest + logf(sum);
}

struct Best {
  float score;
  int expert;
};

/// The larger score; of two equal ones, the lower expert. Any expert is better than none.
__device__ inline bool better(const Best& a, const Best& b) {
  if (a.expert < 0 || b.expert < 0) return a.expert >= 0;
  return a.score > b.score || (a.score == b.score && a.expert < b.expert);
}

/// The best of the candidates that come after `last` (all, if its expert is below 0) in `begin`, `begin + step`, ...
/// below `end`. Successive results are distinct for any values.
template <class Value>
__device__ Best next_best(const Best& last, int begin, int end, int step, const Value& value) {
  Best best{-INFINITY, -1};
  for (int e = begin; e < end; e += step) {
    const Best candidate{rank(value(e)), e};
    const bool chosen_before = last.expert >= 0 && !better(last, candidate);
    if (!chosen_before && better(candidate, best)) best = candidate;
  }
  return best;
}

__device__ inline Best warp_best(Best best) {
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    const Best theirs{__shfl_xor_sync(0xffffffffu, best.score, other),
                      __shfl_xor_sync(0xffffffffu, best.expert, other)};
    if (better(theirs, best)) best = theirs;
  }
  return best;
}

/// The groups that a token uses, as one bit each. Lane g scores group g.
template <class Value>
__device__ unsigned used_groups(const GroupLimit& limit, int experts, const Value& value) {
  const int members = experts / static_cast<int>(limit.groups), g = lane();
  float sum = 0;
  if (g < limit.groups) {
    Best last{INFINITY, -1};
    for (int i = 0; i < limit.best; ++i) {
      last = next_best(last, g * members, (g + 1) * members, 1, value);
      sum += last.score;
    }
  }
  unsigned used = 0;
  for (int i = 0; i < limit.used; ++i) {
    const bool open = g < limit.groups && (used >> g & 1) == 0;
    used |= 1u << warp_best(open ? Best{rank(sum), g} : Best{-INFINITY, -1}).expert;
  }
  return used;
}

constexpr int kHeldScores = 8;  ///< that a lane keeps in registers

/// An integer with the order of the scores: larger for a larger score, equal for an equal one, and never 0.
__device__ inline unsigned order_of(float score) {
  const unsigned bits = __float_as_uint(score + 0.0f);  // one zero
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

/// The choice among up to 32 kHeldScores experts by maxima over the warp, in the same order as next_best.
template <class Value>
__device__ void choose_held(const Value& value, int experts, int skip, int count, int* id) {
  unsigned held[kHeldScores];
#pragma unroll
  for (int i = 0; i < kHeldScores; ++i) {
    const int e = lane() + i * kWarp;
    held[i] = e < experts ? order_of(rank(value(e))) : 0u;
  }
  for (int k = -skip; k < count; ++k) {
    unsigned mine = 0;
    int expert = INT_MAX;
#pragma unroll
    for (int i = 0; i < kHeldScores; ++i) {
      if (held[i] > mine) mine = held[i], expert = lane() + i * kWarp;
    }
    const unsigned best = __reduce_max_sync(0xffffffffu, mine);
    const int chosen = __reduce_min_sync(0xffffffffu, mine == best ? expert : INT_MAX);
#pragma unroll
    for (int i = 0; i < kHeldScores; ++i) {
      if (lane() + i * kWarp == chosen) held[i] = 0;
    }
    if (k >= 0 && lane() == 0) id[k] = chosen;
  }
}

/// How tokens choose, the same for all.
struct ChoiceRule {
  const float* bias;  ///< null: none
  GroupLimit limit;
  bool even;
  int skip, experts, count;
};

inline ChoiceRule rule_of(const RouterTopk& op) {
  return {.bias = op.bias ? op.bias.as<const float>() : nullptr,
          .limit = op.limit,
          .even = op.even,
          .skip = static_cast<int>(op.skip),
          .experts = static_cast<int>(op.scores.size(1)),
          .count = static_cast<int>(op.ids.size(1))};
}

/// The ids of a token: K times the best of the experts that come after the last choice in the order of choices.
__device__ inline void choose_row(const ChoiceRule& rule, const float* score, bool padding, int64_t row, int* id) {
  const int experts = rule.experts, count = rule.count;
  if (padding || rule.even) {
    for (int k = lane(); k < count; k += kWarp) id[k] = padding ? -1 : static_cast<int>((row * count + k) % experts);
    return;
  }
  const float* const bias = rule.bias;
  const auto plain = [&](int e) { return bias == nullptr ? score[e] : score[e] + bias[e]; };
  const unsigned used = rule.limit.active() ? used_groups(rule.limit, experts, plain) : 0xffffffffu;
  const int members = experts / static_cast<int>(rule.limit.groups);
  const auto value = [&](int e) { return used >> (e / members) & 1 ? plain(e) : -INFINITY; };
  if (experts <= kWarp * kHeldScores) return choose_held(value, experts, rule.skip, count, id);
  Best last{INFINITY, -1};
  for (int k = -rule.skip; k < count; ++k) {
    last = warp_best(next_best(last, lane(), experts, kWarp, value));
    if (k >= 0 && lane() == 0) id[k] = last.expert;
  }
}

/// The gates of a token's choices. Their sum is in the order of the choices.
__device__ inline void gate_row(const float* score, const int* id, GateForm form, float scale, float* gate, int count) {
  float largest = -INFINITY, sum = form == GateForm::normalized ? kNormalizeEps : 0.0f;
  const bool softmax = form == GateForm::softmax;
  const auto weight = [&](int k) { return softmax ? expf(score[id[k]] - largest) : score[id[k]]; };
  for (int k = 0; k < count && softmax; ++k) {
    if (id[k] >= 0) largest = fmaxf(largest, score[id[k]]);
  }
  for (int k = 0; k < count && (softmax || form == GateForm::normalized); ++k) {
    if (id[k] >= 0) sum += weight(k);
  }
  for (int k = lane(); k < count; k += kWarp) {
    float value = 0;
    if (id[k] >= 0) {
      value = form == GateForm::one ? 1.0f : weight(k);
      if (softmax || form == GateForm::normalized) value /= sum;
    }
    gate[k] = value * scale;
  }
}

}  // namespace moe::cuda
