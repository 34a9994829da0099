#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/conformance/routing_inputs.h"
#include "tests/oracle/array.h"

namespace moe::conformance {
namespace {

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
        if (hidden != 64) continue;
        for (const Scoring scoring : {Scoring::softmax, Scoring::sigmoid, Scoring::none}) {
          const bool softmax = scoring == Scoring::softmax;
          list.add(RouterScores{.x = s.normal(types.x, {tokens_experts[0], hidden}),
                                .weight = s.normal(types.weight, {tokens_experts[1], hidden}, deviation),
                                .scoring = scoring,
                                .scores = s.poison(f32, tokens_experts),
                                .log_sum = softmax ? s.poison(f32, {tokens_experts[0]}) : View{}},
                   fmt::format("scoring={} deviation={}", static_cast<int>(scoring), deviation));
        }
      }
    }
  }
  for (const DType weight : other_weight_types()) {
    for (const DType x : {f32, bf16_type}) {
      Store& s = list.strided();
      const int64_t hidden = in_blocks(weight, 100);
      list.add(RouterScores{.x = s.normal(x, {33, hidden}),
                            .weight = s.normal(weight, {65, hidden}, 0.1),
                            .scores = s.poison(f32, {33, 65})});
    }
  }
  return list;
}

template <>
Cases<RouterTopk> make_cases<RouterTopk>() {
  Cases<RouterTopk> list;
  const auto add = [&](Store& s, const View& scores, int64_t top_k, const char* note, View bias = {}, int64_t skip = 0,
                       GroupLimit limit = {}, bool even = false) {
    const int64_t tokens = scores.size(0);
    list.add(RouterTopk{.scores = scores,
                        .bias = bias,
                        .group = groups(s, tokens, 1, true),
                        .limit = limit,
                        .skip = skip,
                        .even = even,
                        .ids = s.poison(i32, {tokens, top_k})},
             fmt::format("{} groups={}/{} best={}", note, limit.used, limit.groups, limit.best));
  };
  for (const Sizes& sizes : kSizes) {
    Store& random = list.strided();
    add(random, softmax_scores(random, sizes.tokens, sizes.experts, 1), sizes.top_k, "");
    add(random, softmax_scores(random, sizes.tokens, sizes.experts, 1), sizes.top_k, "even", {}, 0, {}, true);
    Store& equal = list.strided();
    add(equal, equal.constant(f32, {sizes.tokens, sizes.experts}, 1.0 / static_cast<double>(sizes.experts)),
        sizes.top_k, "all equal");
    Store& ties = list.strided();
    add(ties, softmax_scores(ties, sizes.tokens, sizes.experts, 0), sizes.top_k, "of zero logits");
    Store& biased = list.strided();
    std::vector<double> biases(static_cast<size_t>(sizes.experts));
    for (double& bias : biases) bias = static_cast<double>(biased.draw() % 5) / 16;
    const View bias = biased.reals(f32, {sizes.experts}, biases);
    add(biased, softmax_scores(biased, sizes.tokens, sizes.experts, 1), sizes.top_k, "with a bias", bias);
    for (const GroupLimit& limit : {GroupLimit{2, 1, 1}, GroupLimit{4, 2, 1}, GroupLimit{4, 3, 2}, GroupLimit{8, 3, 1},
                                    GroupLimit{32, 5, 2}, GroupLimit{4, 4, 1}}) {
      const int64_t members = sizes.experts / limit.groups;
      if (sizes.experts % limit.groups != 0 || limit.best > members || sizes.top_k > limit.used * members) continue;
      Store& grouped = list.strided();
      add(grouped, softmax_scores(grouped, sizes.tokens, sizes.experts, 1), sizes.top_k, "grouped", {}, 0, limit);
      add(grouped, softmax_scores(grouped, sizes.tokens, sizes.experts, 1), sizes.top_k, "grouped", bias, 0, limit);
      add(grouped, grouped.constant(f32, {sizes.tokens, sizes.experts}, 0.25), sizes.top_k, "equal", {}, 0, limit);
    }
    // As many experts masked as leave enough, the last one among them.
    Store& masked = list.strided();
    std::vector<double> masks(static_cast<size_t>(sizes.experts), 0.0);
    for (int64_t e = sizes.top_k; e < sizes.experts; e += 2)
      masks[static_cast<size_t>(sizes.experts - 1 - (e - sizes.top_k))] = -INFINITY;
    add(masked, softmax_scores(masked, sizes.tokens, sizes.experts, 1), sizes.top_k, "with a mask",
        masked.reals(f32, {sizes.experts}, masks));
    Store& skipping = list.strided();
    const int64_t skip = std::min<int64_t>(2, sizes.experts - sizes.top_k);
    add(skipping, softmax_scores(skipping, sizes.tokens, sizes.experts, 1), sizes.top_k, "skipping", {}, skip);
    Store& few = list.strided();
    std::vector<double> values(static_cast<size_t>(sizes.tokens * sizes.experts));
    for (double& value : values) value = static_cast<double>(few.draw() % 3) / 4;
    add(few, few.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, "three values");
    for (double& value : values) value = value > 0 ? -INFINITY : value;
    add(few, few.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, "mostly -inf");
    add(few, few.constant(f32, {sizes.tokens, sizes.experts}, -INFINITY), sizes.top_k, "all -inf");
    // Not numbers: some of each row's, the first of it, all; ranked beside minus infinity.
    Store& broken = list.strided();
    for (size_t i = 0; i < values.size(); ++i) {
      const bool first = i % static_cast<size_t>(sizes.experts) == 0;
      values[i] = first || broken.draw() % 3 == 0 ? NAN : static_cast<double>(broken.draw() % 5) / 8;
      if (broken.draw() % 7 == 0) values[i] = -INFINITY;
    }
    add(broken, broken.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, "some NaN");
    add(broken, broken.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, "some NaN, with a bias", bias);
    add(broken, broken.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, "some NaN", {}, skip);
    add(broken, broken.constant(f32, {sizes.tokens, sizes.experts}, NAN), sizes.top_k, "all NaN");
    if (const GroupLimit limit{2, 1, 1}; sizes.experts % 2 == 0 && sizes.top_k <= sizes.experts / 2) {
      add(broken, broken.reals(f32, {sizes.tokens, sizes.experts}, values), sizes.top_k, "some NaN", {}, 0, limit);
    }
  }
  return list;
}

template <>
Cases<RouterGates> make_cases<RouterGates>() {
  Cases<RouterGates> list;
  for (const Sizes& sizes : kSizes) {
    for (const GateForm form : {GateForm::score, GateForm::normalized, GateForm::softmax, GateForm::one}) {
      for (const float scale : {1.0f, 2.5f}) {
        Store& s = list.strided();
        const View ids = choices(s, sizes, groups(s, sizes.tokens, 1, true));
        drop_some(s, ids);
        const View scores = form == GateForm::softmax ? s.normal(f32, {sizes.tokens, sizes.experts}, 3)
                                                      : softmax_scores(s, sizes.tokens, sizes.experts, 1);
        list.add(RouterGates{.scores = form == GateForm::one ? View{} : scores,
                             .ids = ids,
                             .form = form,
                             .scale = scale,
                             .gates = s.poison(f32, ids.shape)},
                 fmt::format("form={} scale={}", static_cast<int>(form), scale));
      }
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
    // Some slots without a choice, and no more rows than there are choices.
    const View some = choices(s, sizes, groups(s, sizes.tokens, 1, true));
    drop_some(s, some);
    int64_t chosen = 0;
    for (const int64_t id : oracle::read_indices(some).values()) chosen += id >= 0 ? 1 : 0;
    list.add(RoutePlan{.ids = some,
                       .offsets = s.poison(i32, {sizes.experts + 1}),
                       .row_slot = s.poison(i32, {chosen}),
                       .row_token = s.poison(i32, {chosen}),
                       .slot_row = s.poison(i32, {sizes.tokens, sizes.top_k})},
             "of some slots");
    // The experts of one rank among several: the second half, and the last one alone.
    for (const int64_t first : {sizes.experts / 2, sizes.experts - 1}) {
      list.add(RoutePlan{.ids = some,
                         .first = first,
                         .offsets = s.poison(i32, {sizes.experts - first + 1}),
                         .row_slot = s.poison(i32, {rows}),
                         .row_token = s.poison(i32, {rows}),
                         .slot_row = s.poison(i32, {sizes.tokens, sizes.top_k})},
               fmt::format("of experts from {} on", first));
    }
    list.add(RoutePlan{.ids = some,
                       .offsets = s.poison(i32, {(sizes.experts + 1) / 2 + 1}),
                       .row_slot = s.poison(i32, {rows}),
                       .row_token = s.poison(i32, {rows}),
                       .slot_row = s.poison(i32, {sizes.tokens, sizes.top_k})},
             "of the first experts");
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
Cases<RowsGather> make_cases<RowsGather>() {
  Cases<RowsGather> list;
  for (const Sizes& sizes : kSizes) {
    for (const int64_t hidden : {1, 13, 64, 264}) {
      for (const DType type : {f32, bf16_type}) {
        Store& s = list.strided();
        const int64_t rows = sizes.tokens * sizes.top_k + 3;  // the last ones belong to no token
        const View slot_row = s.poison(i32, {sizes.tokens, sizes.top_k});
        oracle::compute(RoutePlan{.ids = choices(s, sizes, groups(s, sizes.tokens, 1, true)),
                                  .offsets = s.poison(i32, {sizes.experts + 1}),
                                  .row_slot = s.poison(i32, {rows}),
                                  .row_token = s.poison(i32, {rows}),
                                  .slot_row = slot_row});
        list.add(RowsGather{
            .x = s.normal(type, {sizes.tokens, hidden}), .slot_row = slot_row, .rows = s.poison(type, {rows, hidden})});
      }
    }
  }
  return list;
}

template <>
Cases<RouterBackward> make_cases<RouterBackward>() {
  Cases<RouterBackward> list;
  struct Kind {
    Scoring scoring;
    GateForm form;
    bool balanced, by_gate, dropped, normalized, z;
  };
  for (const Sizes& sizes : kSizes) {
    for (const Kind& kind : {Kind{Scoring::softmax, GateForm::score, false, false, false, false, false},
                             Kind{Scoring::softmax, GateForm::score, true, false, false, false, false},
                             Kind{Scoring::softmax, GateForm::normalized, false, false, false, false, false},
                             Kind{Scoring::softmax, GateForm::normalized, true, false, true, false, true},
                             Kind{Scoring::softmax, GateForm::one, true, false, false, false, true},
                             Kind{Scoring::sigmoid, GateForm::normalized, true, false, false, true, false},
                             Kind{Scoring::sigmoid, GateForm::score, false, true, true, false, false},
                             Kind{Scoring::none, GateForm::softmax, false, true, false, false, false}}) {
      for (const double deviation : {1.0, 8.0}) {
        Store& s = list.strided();
        const View group = groups(s, sizes.tokens, 3, true);
        const View scores = kind.scoring == Scoring::none ? s.normal(f32, {sizes.tokens, sizes.experts}, deviation)
                                                          : softmax_scores(s, sizes.tokens, sizes.experts, deviation);
        const View ids = s.poison(i32, {sizes.tokens, sizes.top_k}), d_gates = s.normal(f32, ids.shape);
        oracle::compute(RouterTopk{.scores = scores, .group = group, .ids = ids});
        const View kept = s.copy(ids);
        if (kind.dropped) drop_some(s, kept);
        for (int64_t t = 0; t < sizes.tokens; ++t) {  // the gradients of padding and of dropped slots are no numbers
          float* row = static_cast<float*>(d_gates.at(t).data);
          const int32_t* used = static_cast<int32_t*>(kept.at(t).data);
          for (int64_t k = 0; k < sizes.top_k; ++k) row[k] = used[k] < 0 ? NAN : row[k];
        }
        list.add(RouterBackward{.scores = scores,
                                .ids = ids,
                                .kept = kind.dropped ? kept : View{},
                                .d_gates = d_gates,
                                .group = group,
                                .coefficients = kind.balanced ? s.normal(f32, {3, sizes.experts}, 1e-2) : View{},
                                .gate_coefficients = kind.by_gate ? s.normal(f32, {3, sizes.experts}, 1e-1) : View{},
                                .scoring = kind.scoring,
                                .form = kind.form,
                                .scale = kind.dropped ? 2.5f : 1.0f,
                                .balance_normalized = kind.normalized,
                                .log_sum = kind.z ? s.normal(f32, {sizes.tokens}, 3) : View{},
                                .inv_tokens = kind.z ? s.constant(f32, {1}, 1.0 / 100) : View{},
                                .z_loss = 0.5f,
                                .d_logits = s.poison(f32, {sizes.tokens, sizes.experts})},
                 fmt::format("scoring={} form={} deviation={} normalized={}", static_cast<int>(kind.scoring),
                             static_cast<int>(kind.form), deviation, kind.normalized));
      }
    }
  }
  return list;
}

}  // namespace moe::conformance
