#include <cmath>

#include "tests/conformance/cases.h"
#include "tests/oracle/array.h"

namespace moe::conformance {
namespace {

const std::vector<Shape> kShapes = {{0}, {1}, {7}, {3, 5}, {2, 3, 17}, {5003}, {70001}};

}  // namespace

template <>
Cases<Fill> make_cases<Fill>() {
  Cases<Fill> list;
  for (const Shape& shape : kShapes) {
    for (const DType type : {f32, bf16_type, f64, i32}) {
      for (const double value : {0.0, 1.0, -2.7182818284590452}) {
        Store& s = list.contiguous();
        list.add(Fill{.x = s.poison(type, shape), .value = value}, fmt::format("value={}", value));
      }
    }
  }
  return list;
}

template <>
Cases<Cast> make_cases<Cast>() {
  Cases<Cast> list;
  for (const DType from : {f32, bf16_type}) {
    for (const DType to : {f32, bf16_type}) {
      for (const Shape& shape : kShapes) {
        Store& s = list.contiguous();
        list.add(Cast{.x = s.normal(from, shape), .y = s.poison(to, {shape.elements()})});
      }
      Store& s = list.contiguous();
      const double tie = 1 + 0x1p-8, next_tie = 1 + 3 * 0x1p-8;
      list.add(
          Cast{.x = s.reals(from, {10}, {0, -0.0, INFINITY, -INFINITY, NAN, 3.4028234e38, 1e-40, tie, next_tie, -tie}),
               .y = s.poison(to, {10})},
          "infinities, NaN, overflow, denormals, ties");
    }
  }
  return list;
}

template <>
Cases<SumSquares> make_cases<SumSquares>() {
  Cases<SumSquares> list;
  for (const Shape& shape : kShapes) {
    for (const double deviation : {1.0, 1e-15, 1e15}) {
      Store& s = list.contiguous();
      list.add(SumSquares{.x = s.normal(f32, shape, deviation), .sum = s.constant(f64, {1}, 2.5)},
               fmt::format("deviation={}", deviation));
    }
  }
  Store& s = list.contiguous();
  list.add(SumSquares{.x = s.reals(f32, {3}, {1, INFINITY, 2}), .sum = s.constant(f64, {1}, 0)}, "infinity");
  list.add(SumSquares{.x = s.reals(f32, {3}, {1, NAN, 2}), .sum = s.constant(f64, {1}, 0)}, "NaN");
  return list;
}

template <>
Cases<ClipScale> make_cases<ClipScale>() {
  Cases<ClipScale> list;
  for (const double sum :
       {0.0, 1e-12, 0.25, 1.0, 7.0, 1e30, 1e80, static_cast<double>(INFINITY), static_cast<double>(NAN)}) {
    for (const float max_norm : {0.0f, 1.0f, 0.3f}) {
      Store& s = list.contiguous();
      list.add(ClipScale{.sum_squares = s.constant(f64, {1}, sum),
                         .max_norm = max_norm,
                         .norm = s.poison(f32, {1}),
                         .scale = s.poison(f32, {1})},
               fmt::format("sum={} max_norm={}", sum, max_norm));
    }
  }
  return list;
}

template <>
Cases<Blend> make_cases<Blend>() {
  Cases<Blend> list;
  for (const DType x : {f32, bf16_type}) {
    for (const DType y : {f32, bf16_type}) {
      for (const Shape& shape : kShapes) {
        for (const bool scaled : {false, true}) {
          Store& s = list.contiguous();
          list.add(Blend{.x = s.normal(x, shape),
                         .x_scale = scaled ? s.constant(f32, {1}, 0.3) : View{},
                         .guard = scaled ? View{} : s.constant(f32, {1}, 7),
                         .y = s.normal(y, {shape.elements()}),
                         .x_factor = -0.7f,
                         .y_factor = 1.9f});
        }
      }
    }
  }
  for (const double wrong : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    for (const bool guard : {false, true}) {
      Store& s = list.contiguous();
      list.add(Blend{.x = s.reals(f32, {4}, {1, NAN, INFINITY, 2}),
                     .x_scale = s.constant(f32, {1}, guard ? 1 : wrong),
                     .guard = s.constant(f32, {1}, guard ? wrong : 1),
                     .y = s.normal(f32, {4}),
                     .x_factor = 1,
                     .y_factor = 0.5f},
               fmt::format("{} is {}", guard ? "guard" : "x_scale", wrong));
    }
  }
  return list;
}

template <>
Cases<UnitMatrices> make_cases<UnitMatrices>() {
  Cases<UnitMatrices> list;
  for (const Shape& shape :
       {Shape{0, 3, 4}, {1, 1, 1}, {2, 3, 0}, {3, 5, 7}, {5, 17, 16}, {1, 301, 257}, {130, 9, 33}}) {
    for (const DType type : {f32, bf16_type}) {
      for (const double deviation : {1.0, 1e-12, 1e12}) {
        Store& s = list.contiguous();
        list.add(UnitMatrices{.x = s.normal(f32, shape, deviation), .y = s.poison(type, shape), .eps = 1e-7f},
                 fmt::format("deviation={}", deviation));
      }
    }
  }
  Store& s = list.contiguous();
  list.add(UnitMatrices{.x = s.constant(f32, {2, 3, 3}, 0), .y = s.poison(f32, {2, 3, 3}), .eps = 1e-7f}, "zeros");
  return list;
}

template <>
Cases<AdamW> make_cases<AdamW>() {
  Cases<AdamW> list;
  for (const Shape& shape : kShapes) {
    for (const int64_t step : {1, 2, 17, 100000}) {
      for (const bool master : {false, true}) {
        for (const float decay : {0.0f, 0.1f}) {
          Store& s = list.contiguous();
          const View exp_avg_sq = s.normal(f32, shape, 1e-2);
          auto squares = oracle::read(exp_avg_sq);
          for (double& value : squares.values()) value = step == 1 ? 0 : value * value;
          oracle::write(exp_avg_sq, squares);
          list.add(AdamW{.param = s.normal(master ? bf16_type : f32, shape, 0.1),
                         .master = master ? s.normal(f32, shape, 0.1) : View{},
                         .gradient = s.normal(f32, shape, 3e-2),
                         .exp_avg = s.normal(f32, shape, step == 1 ? 0 : 1e-2),
                         .exp_avg_sq = exp_avg_sq,
                         .gradient_scale = s.constant(f32, {1}, 0.3),
                         .learning_rate = 1e-2f,
                         .beta1 = 0.9f,
                         .beta2 = 0.95f,
                         .eps = 1e-8f,
                         .weight_decay = decay,
                         .step = step},
                   fmt::format("step={} weight_decay={}", step, decay));
        }
      }
    }
  }
  Store& s = list.contiguous();
  const Shape shape{9};
  list.add(AdamW{.param = s.normal(f32, shape),
                 .master = s.normal(f32, shape),
                 .gradient = s.constant(f32, shape, 0),
                 .exp_avg = s.constant(f32, shape, 0),
                 .exp_avg_sq = s.constant(f32, shape, 0),
                 .gradient_scale = s.constant(f32, {1}, 1),
                 .learning_rate = 1e-3f,
                 .beta1 = 0.9f,
                 .beta2 = 0.95f,
                 .eps = 1e-8f,
                 .weight_decay = 0.1f,
                 .step = 1},
           "no gradient");
  for (const double scale : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    for (const bool master : {false, true}) {
      Store& kept = list.contiguous();
      list.add(AdamW{.param = kept.normal(master ? bf16_type : f32, shape),
                     .master = master ? kept.normal(f32, shape) : View{},
                     .gradient = kept.reals(f32, shape, {1, NAN, 2, INFINITY, 0, -1, -INFINITY, 3, 4}),
                     .exp_avg = kept.normal(f32, shape),
                     .exp_avg_sq = kept.constant(f32, shape, 1e-4),
                     .gradient_scale = kept.constant(f32, {1}, scale),
                     .learning_rate = 1e-3f,
                     .beta1 = 0.9f,
                     .beta2 = 0.95f,
                     .eps = 1e-8f,
                     .weight_decay = 0.1f,
                     .step = 3},
               fmt::format("gradient_scale={}", scale));
    }
  }
  return list;
}

}  // namespace moe::conformance
