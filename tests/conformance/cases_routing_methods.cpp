#include <limits>

#include "tests/conformance/routing_inputs.h"

namespace moe::conformance {
namespace {

Draws some_draws(Store& s) {
  return {.seed = s.draw(), .stream = s.draw(), .first = static_cast<int64_t>(s.draw() % 9000)};
}

struct Rows {
  int64_t tokens, length;
};
const std::vector<Rows> kRows = {{0, 1}, {1, 1}, {6, 3}, {34, 17}, {96, 48}, {130, 65}};

}  // namespace

template <>
Cases<RouterDrop> make_cases<RouterDrop>() {
  Cases<RouterDrop> list;
  for (const Rows& rows : kRows) {
    for (const Sizes& sizes : {Sizes{rows.tokens, 4, 1}, Sizes{rows.tokens, 8, 2}, Sizes{rows.tokens, 6, 3}}) {
      for (const int64_t factor : {int64_t{0}, kMillion / 2, kMillion, 5 * kMillion / 4, 9 * kMillion}) {
        for (const float threshold : {0.0f, 0.2f, 0.5f}) {
          if (threshold > 0 && sizes.top_k != 2) continue;
          Store& s = list.strided();
          const View group = groups(s, rows.tokens, 1, true), ids = choices(s, sizes, group, 2);
          const View gates = s.poison(f32, ids.shape);
          oracle::compute(
              RouterGates{.scores = softmax_scores(s, rows.tokens, sizes.experts, 1), .ids = ids, .gates = gates});
          list.add(RouterDrop{.ids = ids,
                              .gates = gates,
                              .group = group,
                              .experts = sizes.experts,
                              .threshold = threshold,
                              .draws = some_draws(s),
                              .factor = factor,
                              .row_length = rows.length,
                              .kept = s.poison(i32, ids.shape),
                              .dropped = s.constant(i32, {1}, 7)},
                   fmt::format("rows of {} factor={} threshold={}", rows.length, factor, threshold));
        }
      }
    }
  }
  return list;
}

template <>
Cases<RouterJitter> make_cases<RouterJitter>() {
  Cases<RouterJitter> list;
  struct Types {
    DType x, y;
  };
  for (const Shape& shape : {Shape{0, 4}, Shape{1, 1}, Shape{5, 7}, Shape{33, 100}}) {
    for (const Types& types : {Types{f32, f32}, Types{bf16_type, bf16_type}, Types{bf16_type, f32}}) {
      for (const bool accumulate : {false, true}) {
        Store& s = list.strided();
        list.add(RouterJitter{.x = s.normal(types.x, shape),
                              .amount = 0.3f,
                              .draws = some_draws(s),
                              .y = accumulate ? s.normal(types.y, shape) : s.poison(types.y, shape),
                              .accumulate = accumulate},
                 fmt::format("accumulate={}", accumulate));
      }
    }
  }
  return list;
}

template <>
Cases<Dropout> make_cases<Dropout>() {
  Cases<Dropout> list;
  struct Types {
    DType x, y;
  };
  for (const Shape& shape : {Shape{0, 4}, Shape{1, 1}, Shape{5, 7}, Shape{33, 100}}) {
    for (const Types& types : {Types{f32, f32}, Types{bf16_type, bf16_type}, Types{bf16_type, f32}}) {
      for (const float probability : {0.0f, 0.1f, 0.75f}) {
        for (int parts = 0; parts < 4; ++parts) {
          const bool accumulate = parts & 1, keyed = parts & 2;
          const int64_t rows = shape[0], used = keyed ? rows / 2 : rows;
          Store& s = list.strided();
          const View x = s.normal(types.x, shape);
          poison_rows(x, used);
          list.add(Dropout{.x = x,
                           .keys = keyed ? s.random_indices({rows}, 0, 1000) : View{},
                           .row_count = keyed ? s.indices({1}, {used}) : View{},
                           .probability = probability,
                           .draws = some_draws(s),
                           .y = accumulate ? s.normal(types.y, shape) : s.poison(types.y, shape),
                           .accumulate = accumulate},
                   fmt::format("probability={} accumulate={}", probability, accumulate));
        }
      }
    }
  }
  return list;
}

template <>
Cases<RouterNoise> make_cases<RouterNoise>() {
  Cases<RouterNoise> list;
  for (const Sizes& sizes : kSizes) {
    Store& s = list.strided();
    const Shape shape{sizes.tokens, sizes.experts};
    list.add(RouterNoise{.clean = s.normal(f32, shape),
                         .raw = s.normal(f32, shape, 3),
                         .draws = some_draws(s),
                         .noisy = s.poison(f32, shape)});
  }
  return list;
}

template <>
Cases<NoiseLoad> make_cases<NoiseLoad>() {
  Cases<NoiseLoad> list;
  for (const Sizes& sizes : kSizes) {
    if (sizes.top_k == sizes.experts) continue;
    Store& s = list.strided();
    const Shape shape{sizes.tokens, sizes.experts};
    list.add(NoiseLoad{.clean = s.normal(f32, shape),
                       .raw = s.normal(f32, shape, 0.5),
                       .noisy = s.normal(f32, shape),
                       .top_k = sizes.top_k,
                       .load = s.poison(f32, shape)});
    if (sizes.top_k + 1 == sizes.experts) continue;
    std::vector<double> broken(static_cast<size_t>(shape.elements()), 0.25);  // equal, except one that is NaN
    for (int64_t t = 0; t < sizes.tokens; ++t) {
      const auto expert = static_cast<int64_t>(s.draw() % static_cast<uint64_t>(sizes.experts));
      broken[static_cast<size_t>(t * sizes.experts + expert)] = std::numeric_limits<double>::quiet_NaN();
    }
    list.add(NoiseLoad{.clean = s.normal(f32, shape),
                       .raw = s.normal(f32, shape, 0.5),
                       .noisy = s.reals(f32, shape, broken),
                       .top_k = sizes.top_k,
                       .load = s.poison(f32, shape)},
             "not all are numbers");
  }
  return list;
}

template <>
Cases<NoiseBackward> make_cases<NoiseBackward>() {
  Cases<NoiseBackward> list;
  for (const Sizes& sizes : kSizes) {
    for (const bool loaded : {false, true}) {
      if (loaded && sizes.top_k == sizes.experts) continue;
      Store& s = list.strided();
      const Shape shape{sizes.tokens, sizes.experts};
      list.add(NoiseBackward{.clean = s.normal(f32, shape),
                             .raw = s.normal(f32, shape, 0.5),
                             .noisy = s.normal(f32, shape),
                             .d_noisy = s.normal(f32, shape),
                             .group = groups(s, sizes.tokens, 3, true),
                             .coefficients = loaded ? s.normal(f32, {3, sizes.experts}) : View{},
                             .top_k = sizes.top_k,
                             .draws = some_draws(s),
                             .d_clean = s.poison(f32, shape),
                             .d_raw = s.poison(f32, shape)});
    }
  }
  return list;
}

template <>
Cases<TableRoute> make_cases<TableRoute>() {
  Cases<TableRoute> list;
  for (const int64_t tokens : {0, 1, 9, 300}) {
    Store& s = list.strided();
    list.add(TableRoute{.tokens = s.random_indices({tokens}, 0, 50),
                        .table = s.random_indices({50}, 0, 8),
                        .group = groups(s, tokens, 1, true),
                        .ids = s.poison(i32, {tokens, 1})});
  }
  return list;
}

template <>
Cases<ExpertChoice> make_cases<ExpertChoice>() {
  Cases<ExpertChoice> list;
  for (const Rows& rows : kRows) {
    for (const int64_t experts : {1, 4, 40}) {
      for (const int64_t factor : {kMillion / 2, 2 * kMillion, 100 * kMillion}) {
        Store& s = list.strided();
        const Shape shape{rows.tokens, experts};
        std::vector<double> few(static_cast<size_t>(shape.elements()));
        for (double& value : few) value = static_cast<double>(s.draw() % 3) / 4;
        std::vector<double> broken = few;  // mostly not numbers, as when training diverges
        for (double& value : broken) value = s.draw() % 4 == 0 ? value : std::numeric_limits<double>::quiet_NaN();
        const std::vector<double> none(few.size(), std::numeric_limits<double>::quiet_NaN()), equal(few.size(), 0.25);
        for (const View& scores :
             {softmax_scores(s, rows.tokens, experts, 1), s.reals(f32, shape, few), s.reals(f32, shape, broken),
              s.reals(f32, shape, none), s.reals(f32, shape, equal)}) {
          list.add(ExpertChoice{.scores = scores,
                                .group = groups(s, rows.tokens, 1, true),
                                .factor = factor,
                                .row_length = rows.length,
                                .ids = s.poison(i32, shape)},
                   fmt::format("rows of {} factor={}", rows.length, factor));
        }
      }
    }
  }
  Store& s = list.contiguous();  // more tokens than the tiles of a GPU's block
  list.add(ExpertChoice{.scores = softmax_scores(s, 2600, 3, 1),
                        .group = groups(s, 2600, 1, true),
                        .factor = kMillion,
                        .row_length = 1300,
                        .ids = s.poison(i32, {2600, 3})},
           "long rows");
  return list;
}

template <>
Cases<Distillation> make_cases<Distillation>() {
  Cases<Distillation> list;
  for (const Sizes& sizes : kSizes) {
    for (const int parts : {1, 2, 3}) {
      Store& s = list.strided();
      const View group = groups(s, sizes.tokens, 1, true);
      const Shape shape{sizes.tokens, sizes.experts};
      list.add(Distillation{.scores = softmax_scores(s, sizes.tokens, sizes.experts, 1),
                            .ids = choices(s, {sizes.tokens, sizes.experts, 1}, group),
                            .group = group,
                            .inv_tokens = s.constant(f32, {1}, 1.0 / 126),
                            .weight = 0.3f,
                            .loss = parts & 1 ? s.normal(f32, {1}) : View{},
                            .d_logits = parts & 2 ? s.poison(f32, shape) : View{}});
    }
  }
  return list;
}

}  // namespace moe::conformance
