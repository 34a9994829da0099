#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/conformance/cases.h"
#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::conformance {
namespace {

struct Sizes {
  int64_t tokens, experts, top_k;
};
const std::vector<Sizes> kSizes = {{0, 4, 2},  {1, 1, 1},   {5, 6, 1},    {7, 6, 6},   {33, 8, 2},
                                   {9, 64, 6}, {40, 65, 8}, {130, 16, 3}, {300, 64, 6}};

/// Groups of tokens in order, padding (-1) after each where asked for.
View groups(Store& s, int64_t tokens, int64_t count, bool padding) {
  std::vector<int64_t> result;
  for (int64_t t = 0; t < tokens; ++t) {
    const bool is_padding = padding && s.draw() % 4 == 0;
    result.push_back(is_padding ? -1 : t * count / tokens);
  }
  return s.indices({tokens}, result);
}

/// Softmax scores of random logits; a large deviation gives a few experts nearly everything.
View softmax_scores(Store& s, int64_t tokens, int64_t experts, double deviation) {
  const View identity = s.constant(f32, {experts, experts}, 0);
  for (int64_t e = 0; e < experts; ++e) {
    static_cast<float*>(identity.at(e).data)[e] = 1;
  }
  const View scores = s.poison(f32, {tokens, experts});
  oracle::compute(RouterScores{.x = s.normal(f32, {tokens, experts}, deviation), .weight = identity, .scores = scores});
  return scores;
}

/// The choices that the oracle makes from random scores.
View choices(Store& s, const Sizes& sizes, const View& group, double deviation = 1) {
  const View ids = s.poison(i32, {sizes.tokens, sizes.top_k});
  oracle::compute(RouterTopk{.scores = softmax_scores(s, sizes.tokens, sizes.experts, deviation),
                             .group = group,
                             .normalize = false,
                             .ids = ids,
                             .gates = s.poison(f32, {sizes.tokens, sizes.top_k})});
  return ids;
}

/// Plans of random choices with padding, of one expert taking all, and of padding alone.
std::vector<View> plan_choices(Store& s, const Sizes& sizes) {
  std::vector<View> result = {choices(s, sizes, groups(s, sizes.tokens, 1, true)),
                              choices(s, sizes, groups(s, sizes.tokens, 1, false), 10),
                              s.constant(i32, {sizes.tokens, sizes.top_k}, -1)};
  if (sizes.top_k == 1) {
    result.push_back(s.constant(i32, {sizes.tokens, 1}, static_cast<double>(sizes.experts - 1)));
  }
  return result;
}

}  // namespace

template <>
Cases<RouterScores> make_cases<RouterScores>() {
  Cases<RouterScores> list;
  struct Types {
    DType x, weight;
  };
  for (const Shape& tokens_experts : {Shape{0, 4}, Shape{1, 1}, Shape{5, 6}, Shape{33, 64}, Shape{70, 65}}) {
    for (const int64_t hidden : {1, 7, 64, 100, 1031}) {
      for (const Types& types :
           {Types{f32, f32}, Types{bf16_type, bf16_type}, Types{bf16_type, f32}, Types{f32, bf16_type}}) {
        Store& s = list.strided();
        const double deviation = s.draw() % 3 == 0 ? 10 : 1 / std::sqrt(static_cast<double>(hidden));
        list.add(RouterScores{.x = s.normal(types.x, {tokens_experts[0], hidden}),
                              .weight = s.normal(types.weight, {tokens_experts[1], hidden}, deviation),
                              .scores = s.poison(f32, tokens_experts)},
                 fmt::format("deviation={}", deviation));
      }
    }
  }
  return list;
}

template <>
Cases<RouterTopk> make_cases<RouterTopk>() {
  Cases<RouterTopk> list;
  const auto add = [&](Store& s, const View& scores, int64_t top_k, bool normalize, const char* note, View bias = {},
                       int64_t skip = 0) {
    const int64_t tokens = scores.size(0);
    list.add(RouterTopk{.scores = scores,
                        .bias = bias,
                        .group = groups(s, tokens, 1, true),
                        .normalize = normalize,
                        .skip = skip,
                        .ids = s.poison(i32, {tokens, top_k}),
                        .gates = s.poison(f32, {tokens, top_k})},
             fmt::format("normalize={} {}", normalize, note));
  };
  for (const Sizes& sizes : kSizes) {
    for (const bool normalize : {false, true}) {
      Store& random = list.strided();
      add(random, softmax_scores(random, sizes.tokens, sizes.experts, 1), sizes.top_k, normalize, "");
      Store& equal = list.strided();
      add(equal, equal.constant(f32, {sizes.tokens, sizes.experts}, 1.0 / static_cast<double>(sizes.experts)),
          sizes.top_k, normalize, "all equal");
      Store& ties = list.strided();
      add(ties, softmax_scores(ties, sizes.tokens, sizes.experts, 0), sizes.top_k, normalize, "of zero logits");
      Store& biased = list.strided();
      std::vector<double> biases(static_cast<size_t>(sizes.experts));
      for (double& bias : biases) bias = static_cast<double>(biased.draw() % 5) / 16;
      add(biased, softmax_scores(biased, sizes.tokens, sizes.experts, 1), sizes.top_k, normalize, "with a bias",
          biased.reals(f32, {sizes.experts}, biases));
      // As many experts masked as leave enough, the last one among them.
      Store& masked = list.strided();
      std::vector<double> masks(static_cast<size_t>(sizes.experts), 0.0);
      for (int64_t e = sizes.top_k; e < sizes.experts; e += 2)
        masks[static_cast<size_t>(sizes.experts - 1 - (e - sizes.top_k))] = -INFINITY;
      add(masked, softmax_scores(masked, sizes.tokens, sizes.experts, 1), sizes.top_k, normalize, "with a mask",
          masked.reals(f32, {sizes.experts}, masks));
      Store& skipping = list.strided();
      const int64_t skip = std::min<int64_t>(2, sizes.experts - sizes.top_k);
      add(skipping, softmax_scores(skipping, sizes.tokens, sizes.experts, 1), sizes.top_k, normalize, "skipping", {},
          skip);
      Store& few = list.strided();
      std::vector<double> values(static_cast<size_t>(sizes.tokens * sizes.experts));
      for (double& value : values) value = static_cast<double>(few.draw() % 3) / 4;
      add(few, few.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, normalize, "three values");
      if (normalize) continue;
      for (double& value : values) value = value > 0 ? -INFINITY : value;
      add(few, few.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, false, "mostly -inf");
      add(few, few.constant(f32, {sizes.tokens, sizes.experts}, -INFINITY), sizes.top_k, false, "all -inf");
    }
  }
  return list;
}

template <>
Cases<RoutePlan> make_cases<RoutePlan>() {
  Cases<RoutePlan> list;
  for (const Sizes& sizes : kSizes) {
    Store& s = list.strided();
    const int64_t rows = sizes.tokens * sizes.top_k;
    for (const View& ids : plan_choices(s, sizes)) {
      list.add(RoutePlan{.ids = ids,
                         .offsets = s.poison(i32, {sizes.experts + 1}),
                         .row_slot = s.poison(i32, {rows}),
                         .row_token = s.poison(i32, {rows}),
                         .slot_row = s.poison(i32, {sizes.tokens, sizes.top_k})});
    }
  }
  return list;
}

template <>
Cases<RowsCombine> make_cases<RowsCombine>() {
  Cases<RowsCombine> list;
  struct Types {
    DType rows, residual, y;
  };
  for (const Sizes& sizes : kSizes) {
    for (const int64_t hidden : {1, 13, 64}) {
      for (const Types& types : {Types{f32, f32, f32}, Types{bf16_type, bf16_type, bf16_type},
                                 Types{bf16_type, f32, f32}, Types{f32, bf16_type, bf16_type}}) {
        for (int parts = 0; parts < 4; ++parts) {
          Store& s = list.strided();
          const bool residual = parts & 1, accumulate = parts & 2;
          const Shape shape{sizes.tokens, hidden};
          const int64_t rows = sizes.tokens * sizes.top_k;
          const View slot_row = s.poison(i32, {sizes.tokens, sizes.top_k}),
                     offsets = s.poison(i32, {sizes.experts + 1});
          const View matrix = s.normal(types.rows, {rows, hidden});
          oracle::compute(RoutePlan{.ids = choices(s, sizes, groups(s, sizes.tokens, 1, true)),
                                    .offsets = offsets,
                                    .row_slot = s.poison(i32, {rows}),
                                    .row_token = s.poison(i32, {rows}),
                                    .slot_row = slot_row});
          poison_rows(matrix, oracle::read_indices(offsets)(sizes.experts));
          list.add(RowsCombine{.rows = matrix,
                               .slot_row = slot_row,
                               .residual = residual ? s.normal(types.residual, shape) : View{},
                               .y = accumulate ? s.normal(types.y, shape) : s.poison(types.y, shape),
                               .accumulate = accumulate},
                   fmt::format("accumulate={}", accumulate));
        }
      }
    }
  }
  return list;
}

template <>
Cases<RouterCounts> make_cases<RouterCounts>() {
  Cases<RouterCounts> list;
  for (const Sizes& sizes : kSizes) {
    for (const int64_t count : {1, 4}) {
      for (const bool padding : {false, true}) {
        Store& s = list.strided();
        const View group = groups(s, sizes.tokens, count, padding), chosen_by = groups(s, sizes.tokens, count, padding);
        // Some padding tokens have ids here, as if chosen under another mask: they count nowhere all the same.
        list.add(RouterCounts{.ids = choices(s, sizes, chosen_by),
                              .group = group,
                              .counts = s.random_indices({count, sizes.experts}, 0, 5)});
      }
    }
  }
  return list;
}

template <>
Cases<BalanceCoefficients> make_cases<BalanceCoefficients>() {
  Cases<BalanceCoefficients> list;
  for (const int64_t experts : {1, 6, 64}) {
    for (const int devices : {1, 2, 3, 32, static_cast<int>(experts)}) {
      if (experts % devices != 0) continue;
      for (const int64_t count : {0, 1, 5}) {
        for (const bool accumulate : {false, true}) {
          Store& s = list.strided();
          const Shape shape{count, experts};
          std::vector<int64_t> tokens(static_cast<size_t>(count));
          for (size_t g = 0; g < tokens.size(); ++g) tokens[g] = g % 2 == 0 ? 40 + static_cast<int64_t>(g) : 0;
          list.add(BalanceCoefficients{.counts = s.random_indices(shape, 0, 30),
                                       .group_tokens = s.indices({count}, tokens),
                                       .inv_tokens = s.constant(f32, {1}, 1.0 / 126),
                                       .top_k = static_cast<int>(std::min<int64_t>(experts, 6)),
                                       .alpha = 0.003f,
                                       .devices = devices,
                                       .coefficients = accumulate ? s.normal(f32, shape, 1e-3) : s.poison(f32, shape),
                                       .accumulate = accumulate},
                   fmt::format("devices={} accumulate={}", devices, accumulate));
        }
      }
    }
  }
  return list;
}

template <>
Cases<BalanceLoss> make_cases<BalanceLoss>() {
  Cases<BalanceLoss> list;
  for (const Sizes& sizes : kSizes) {
    for (const int64_t count : {1, 4}) {
      for (const bool padding : {false, true}) {
        Store& s = list.strided();
        list.add(BalanceLoss{.scores = softmax_scores(s, sizes.tokens, sizes.experts, 1),
                             .group = groups(s, sizes.tokens, count, padding),
                             .coefficients = s.normal(f32, {count, sizes.experts}, 1e-2),
                             .loss = s.normal(f32, {1})});
      }
    }
  }
  return list;
}

template <>
Cases<RouterBackward> make_cases<RouterBackward>() {
  Cases<RouterBackward> list;
  for (const Sizes& sizes : kSizes) {
    for (const bool normalize : {false, true}) {
      for (const bool balanced : {false, true}) {
        for (const double deviation : {1.0, 8.0}) {
          Store& s = list.strided();
          const View group = groups(s, sizes.tokens, 3, true),
                     scores = softmax_scores(s, sizes.tokens, sizes.experts, deviation);
          const View ids = s.poison(i32, {sizes.tokens, sizes.top_k}), d_gates = s.normal(f32, ids.shape);
          oracle::compute(RouterTopk{
              .scores = scores, .group = group, .normalize = normalize, .ids = ids, .gates = s.poison(f32, ids.shape)});
          for (int64_t t = 0; t < sizes.tokens; ++t) {  // the gradients of padding are no numbers
            float* row = static_cast<float*>(d_gates.at(t).data);
            if (static_cast<int32_t*>(group.data)[t] < 0) std::fill(row, row + sizes.top_k, NAN);
          }
          list.add(RouterBackward{.scores = scores,
                                  .ids = ids,
                                  .d_gates = d_gates,
                                  .group = group,
                                  .coefficients = balanced ? s.normal(f32, {3, sizes.experts}, 1e-2) : View{},
                                  .normalize = normalize,
                                  .d_logits = s.poison(f32, {sizes.tokens, sizes.experts})},
                   fmt::format("normalize={} deviation={}", normalize, deviation));
        }
      }
    }
  }
  return list;
}

}  // namespace moe::conformance
