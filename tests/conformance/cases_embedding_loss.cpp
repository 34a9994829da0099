#include <cmath>

#include "tests/conformance/cases.h"

namespace moe::conformance {

template <>
Cases<Embed> make_cases<Embed>() {
  Cases<Embed> list;
  std::vector<DType> tables = other_weight_types();
  tables.insert(tables.end(), {f32, bf16_type});
  for (const int64_t least_width : {1, 13, 64, 2055}) {
    for (const int64_t tokens : {0, 1, 37}) {
      for (const DType table : tables) {
        const int64_t width = in_blocks(table, least_width);
        for (const DType y : {f32, bf16_type}) {
          Store& s = list.strided();
          list.add(Embed{.tokens = s.random_indices({tokens}, 0, 11),
                         .table = s.normal(table, {11, width}),
                         .y = s.poison(y, {tokens, width})});
        }
      }
    }
  }
  return list;
}

template <>
Cases<EmbedBackward> make_cases<EmbedBackward>() {
  Cases<EmbedBackward> list;
  for (const int64_t width : {1, 13, 200}) {
    for (const int64_t tokens : {0, 1, 37, 500}) {
      for (const int64_t vocabulary : {1, 11, 1000}) {
        for (const DType dy : {f32, bf16_type}) {
          Store& s = list.strided();
          list.add(EmbedBackward{.tokens = s.random_indices({tokens}, 0, vocabulary),
                                 .dy = s.normal(dy, {tokens, width}),
                                 .d_table = s.normal(f32, {vocabulary, width})});
        }
      }
    }
  }
  // One very common token (padding is one) among others, whose rows begin and end anywhere.
  for (const int common : {63, 64, 65, 1000, 1500}) {
    Store& s = list.strided();
    std::vector<int64_t> tokens(1500);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int64_t>(i * 7 % 11);
    for (int i = 0; i < common; ++i) tokens[static_cast<size_t>(i * 7 % 1500)] = 3;
    list.add(EmbedBackward{.tokens = s.indices({1500}, tokens),
                           .dy = s.normal(bf16_type, {1500, 72}),
                           .d_table = s.normal(f32, {11, 72})},
             fmt::format("common={}", common));
  }
  return list;
}

template <>
Cases<CrossEntropy> make_cases<CrossEntropy>() {
  Cases<CrossEntropy> list;
  enum class Gradient { none, in_place, as_f32, as_bf16 };
  const auto add = [&](int64_t tokens, int64_t vocabulary, DType type, double deviation, Gradient gradient) {
    Store& s = list.strided();
    const View logits = s.normal(type, {tokens, vocabulary}, deviation);
    View d_logits = gradient == Gradient::in_place ? logits : View{};
    if (gradient == Gradient::as_f32) d_logits = s.poison(f32, logits.shape);
    if (gradient == Gradient::as_bf16) d_logits = s.poison(bf16_type, logits.shape);
    list.add(CrossEntropy{.logits = logits,
                          .targets = s.random_indices({tokens}, -vocabulary / 2 - 1, vocabulary),
                          .gradient_scale = d_logits ? s.constant(f32, {1}, 1.0 / 77) : View{},
                          .d_logits = d_logits,
                          .row_loss = s.poison(f32, {tokens})},
             fmt::format("deviation={}", deviation));
  };
  for (const int64_t vocabulary : {1, 2, 5, 257}) {
    for (const int64_t tokens : {0, 1, 9, 33}) {
      for (const DType type : {f32, bf16_type}) {
        for (const double deviation : {0.0, 2.0, 100.0}) {
          for (const auto gradient : {Gradient::none, Gradient::in_place, Gradient::as_f32, Gradient::as_bf16}) {
            add(tokens, vocabulary, type, deviation, gradient);
          }
        }
      }
    }
  }
  for (const DType type : {f32, bf16_type}) add(3, 102400, type, 3, Gradient::in_place);
  add(8, 40003, f32, 3, Gradient::as_bf16);  // more rows than there are blocks, where a block takes row after row

  // Weights: of some tokens 0, of others more than 1.
  for (const DType type : {f32, bf16_type}) {
    for (const bool gradient : {false, true}) {
      Store& s = list.strided();
      std::vector<double> weights(33);
      for (size_t t = 0; t < weights.size(); ++t) weights[t] = 0.375 * static_cast<double>(t % 5);
      const View logits = s.normal(type, {33, 257}, 2);
      list.add(CrossEntropy{.logits = logits,
                            .targets = s.random_indices({33}, -20, 257),
                            .weights = s.reals(f32, {33}, weights),
                            .gradient_scale = gradient ? s.constant(f32, {1}, 1.0 / 77) : View{},
                            .d_logits = gradient ? logits : View{},
                            .row_loss = s.poison(f32, {33})},
               gradient ? "weights" : "weights, loss alone");
    }
  }

  // A vocabulary of which only a few entries, in no particular place, are allowed.
  for (const DType type : {f32, bf16_type}) {
    Store& s = list.strided();
    std::vector<double> logits(2 * 3000, -INFINITY);
    logits[2500] = logits[2999] = logits[3000] = 1.5;
    logits[5999] = -2;
    list.add(CrossEntropy{.logits = s.reals(type, {2, 3000}, logits),
                          .targets = s.indices({2}, {2999, 0}),
                          .gradient_scale = s.constant(f32, {1}, 0.5),
                          .d_logits = s.poison(type, {2, 3000}),
                          .row_loss = s.poison(f32, {2})},
             "mostly -inf");
  }
  return list;
}

}  // namespace moe::conformance
