#include <algorithm>
#include <numeric>

#include "tests/conformance/cases.h"
#include "tests/oracle/naive.h"

namespace moe::conformance {
namespace {

/// Rows and widths: none, one, odd, a vector's multiple, more than any register block.
const std::vector<Shape> kShapes = {{0, 4}, {1, 1}, {3, 5}, {4, 13}, {9, 64}, {5, 257}, {2, 2050}};

/// Distinct ones of `size` places for each row; rows from `computed` on have none.
View distinct_places(Store& s, int64_t rows, int64_t computed, int64_t size) {
  std::vector<int64_t> places(static_cast<size_t>(size));
  std::iota(places.begin(), places.end(), 0);
  for (size_t i = places.size(); i > 1; --i) std::swap(places[i - 1], places[s.draw() % i]);
  places.resize(static_cast<size_t>(rows));
  for (int64_t r = computed; r < rows; ++r) places[static_cast<size_t>(r)] = -1;
  return s.indices({rows}, places);
}

/// How SwiGlu is called: with a gate factor of each row or without, on all rows or on some.
struct SwiGluCall {
  bool scaled;
  int64_t rows_left_alone;  ///< -1: no row count
};
constexpr SwiGluCall kSwiGluCalls[] = {{false, -1}, {true, -1}, {true, 2}, {false, 0}, {true, 1000}};

int64_t computed_rows(const SwiGluCall& call, int64_t rows) {
  return std::max<int64_t>(0, rows - std::max<int64_t>(0, call.rows_left_alone));
}

}  // namespace

template <>
Cases<RmsNorm> make_cases<RmsNorm>() {
  Cases<RmsNorm> list;
  struct Types {
    DType x, residual, sum, gain, y;
  };
  const Types types_of_interest[] = {{f32, f32, f32, f32, f32},
                                     {bf16_type, bf16_type, bf16_type, bf16_type, bf16_type},
                                     {f32, bf16_type, f32, bf16_type, bf16_type},
                                     {bf16_type, f32, f32, f32, bf16_type},
                                     {bf16_type, bf16_type, bf16_type, f32, f32}};
  for (const Shape& shape : kShapes) {
    for (const Types& types : types_of_interest) {
      for (const bool residual : {false, true}) {
        for (const double deviation : {1.0, 300.0, 1e-3}) {
          Store& s = list.strided();
          list.add(RmsNorm{.x = s.normal(types.x, shape, deviation),
                           .residual = residual ? s.normal(types.residual, shape, deviation) : View{},
                           .sum = residual ? s.poison(types.sum, shape) : View{},
                           .gain = s.normal(types.gain, {shape[1]}),
                           .eps = 1e-6f,
                           .y = s.poison(types.y, shape),
                           .inv_rms = s.poison(f32, {shape[0]})},
                   fmt::format("deviation={}", deviation));
        }
      }
    }
    for (const DType gain : other_weight_types()) {
      Store& s = list.strided();
      const Shape whole{shape[0], in_blocks(gain, shape[1])};
      list.add(RmsNorm{.x = s.normal(f32, whole),
                       .gain = s.normal(gain, {whole[1]}),
                       .eps = 1e-6f,
                       .y = s.poison(f32, whole),
                       .inv_rms = s.poison(f32, {whole[0]})});
    }
    for (const DType type : {f32, bf16_type}) {
      Store& s = list.strided();
      const View x = s.normal(type, shape);
      list.add(RmsNorm{.x = x,
                       .residual = s.normal(type, shape),
                       .sum = x,
                       .gain = s.normal(f32, {shape[1]}),
                       .eps = 1e-5f,
                       .y = s.poison(type, shape),
                       .inv_rms = s.poison(f32, {shape[0]})},
               "the sum in place");
    }
  }
  Store& s = list.strided();
  list.add(RmsNorm{.x = s.constant(f32, {3, 8}, 0),
                   .gain = s.normal(f32, {8}),
                   .eps = 1e-6f,
                   .y = s.poison(f32, {3, 8}),
                   .inv_rms = s.poison(f32, {3})},
           "zeros");
  return list;
}

template <>
Cases<RmsNormBackward> make_cases<RmsNormBackward>() {
  Cases<RmsNormBackward> list;
  struct Types {
    DType dy, x, gain, dx;
  };
  for (const Shape& shape : {Shape{0, 4}, Shape{1, 1}, Shape{3, 5}, Shape{37, 13}, Shape{9, 64}, Shape{150, 33},
                             Shape{5, 257}, Shape{2, 2050}, Shape{2100, 3}}) {
    for (const Types& types : {Types{f32, f32, f32, f32}, Types{bf16_type, bf16_type, bf16_type, bf16_type},
                               Types{bf16_type, f32, f32, bf16_type}, Types{f32, bf16_type, bf16_type, f32}}) {
      Store& s = list.strided();
      const View x = s.normal(types.x, shape, 2), gain = s.normal(types.gain, {shape[1]});
      const View inv_rms = s.poison(f32, {shape[0]});
      oracle::compute(RmsNorm{.x = x, .gain = gain, .eps = 1e-6f, .y = s.poison(f32, shape), .inv_rms = inv_rms});
      list.add(RmsNormBackward{.dy = s.normal(types.dy, shape),
                               .x = x,
                               .gain = gain,
                               .inv_rms = inv_rms,
                               .dx = s.normal(types.dx, shape),
                               .dgain = s.normal(f32, {shape[1]})});
    }
  }
  return list;
}

template <>
Cases<SwiGlu> make_cases<SwiGlu>() {
  Cases<SwiGlu> list;
  struct Types {
    DType gate_up, y;
  };
  for (const Shape& shape : kShapes) {
    for (const Types& types :
         {Types{f32, f32}, Types{bf16_type, bf16_type}, Types{f32, bf16_type}, Types{bf16_type, f32}}) {
      for (const SwiGluCall& call : kSwiGluCalls) {
        Store& s = list.strided();
        const int64_t places = shape[0] + 3, computed = computed_rows(call, shape[0]);
        const View gate_up = s.normal(types.gate_up, {shape[0], 2 * shape[1]}, call.scaled ? 2 : 30);
        poison_rows(gate_up, computed);
        list.add(SwiGlu{.gate_up = gate_up,
                        .scale = call.scaled ? s.normal(f32, {places}) : View{},
                        .scale_index = call.scaled ? distinct_places(s, shape[0], computed, places) : View{},
                        .row_count = call.rows_left_alone < 0 ? View{} : s.indices({1}, {computed}),
                        .y = s.poison(types.y, shape)},
                 fmt::format("rows left alone: {}", call.rows_left_alone));
      }
    }
  }
  Store& s = list.strided();
  list.add(SwiGlu{.gate_up = s.reals(f32, {1, 12}, {-1000, 1000, -100, 100, -0.0, 88.8, 1, 1, 1, 1, 1, 1}),
                  .y = s.poison(f32, {1, 6})},
           "where exp overflows");
  return list;
}

template <>
Cases<SwiGluBackward> make_cases<SwiGluBackward>() {
  Cases<SwiGluBackward> list;
  for (const Shape& shape : kShapes) {
    for (const DType type : {f32, bf16_type}) {
      for (const SwiGluCall& call : kSwiGluCalls) {
        for (int outputs = 0; outputs < 3; ++outputs) {  // gradient alone, everything, everything in place
          Store& s = list.strided();
          const Shape wide{shape[0], 2 * shape[1]};
          const int64_t places = shape[0] + 3, computed = computed_rows(call, shape[0]);
          const View gate_up = s.normal(type, wide, call.scaled ? 2 : 30), dy = s.normal(type, shape);
          poison_rows(gate_up, computed);
          poison_rows(dy, computed);
          list.add(SwiGluBackward{.gate_up = gate_up,
                                  .scale = call.scaled ? s.normal(f32, {places}) : View{},
                                  .scale_index = call.scaled ? distinct_places(s, shape[0], computed, places) : View{},
                                  .row_count = call.rows_left_alone < 0 ? View{} : s.indices({1}, {computed}),
                                  .dy = dy,
                                  .d_gate_up = outputs == 2 ? gate_up : s.poison(type, wide),
                                  .y = outputs == 2   ? dy
                                       : outputs == 1 ? s.poison(type, shape)
                                                      : View{},
                                  .d_scale = call.scaled ? s.poison(f32, {places}) : View{}},
                   fmt::format("rows left alone: {}{}", call.rows_left_alone, outputs == 2 ? ", in place" : ""));
        }
      }
    }
  }
  Store& s = list.strided();
  list.add(SwiGluBackward{.gate_up = s.normal(bf16_type, {5, 26}),
                          .dy = s.normal(f32, {5, 13}),
                          .d_gate_up = s.poison(f32, {5, 26}),
                          .y = s.poison(bf16_type, {5, 13})});
  return list;
}

template <>
Cases<RopeTable> make_cases<RopeTable>() {
  Cases<RopeTable> list;
  for (const int64_t h : {2, 6, 64, 128}) {
    for (const int64_t tokens : {0, 1, 7}) {
      for (const double theta : {10000.0, 1e6}) {
        Store& s = list.strided();
        list.add(RopeTable{
            .positions = s.random_indices({tokens}, 0, 200000), .theta = theta, .table = s.poison(f32, {tokens, h})});
      }
    }
  }
  return list;
}

template <>
Cases<Rope> make_cases<Rope>() {
  Cases<Rope> list;
  for (const int64_t h : {2, 6, 10, 64}) {
    for (const int64_t heads : {1, 3}) {
      for (const int64_t tokens : {0, 1, 9}) {
        for (const DType type : {f32, bf16_type}) {
          for (const bool inverse : {false, true}) {
            Store& s = list.strided();
            const View table = s.poison(f32, {tokens, h});
            oracle::compute(RopeTable{.positions = s.random_indices({tokens}, 0, 5000), .theta = 1e4, .table = table});
            list.add(Rope{.x = s.normal(type, {tokens, heads * h}), .table = table, .inverse = inverse});
          }
        }
      }
    }
  }
  return list;
}

template <>
Cases<Add> make_cases<Add>() {
  Cases<Add> list;
  for (const Shape& shape : kShapes) {
    for (const DType x : {f32, bf16_type}) {
      for (const DType y : {f32, bf16_type}) {
        Store& s = list.strided();
        list.add(Add{.x = s.normal(x, shape), .y = s.normal(y, shape)});
      }
    }
  }
  return list;
}

}  // namespace moe::conformance
