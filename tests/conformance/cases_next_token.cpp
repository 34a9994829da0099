#include <cmath>

#include "tests/conformance/cases.h"
#include "tests/conformance/magnitudes.h"
#include "tests/oracle/array.h"

namespace moe::conformance {
namespace {

/// Halves of whole numbers, so that many are equal; some rows have a logit that nobody may choose.
View logits(Store& s, int64_t rows, int64_t vocabulary) {
  const View view = s.normal(f32, {rows, vocabulary});
  oracle::Reals values = oracle::read(view);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t v = 0; v < vocabulary; ++v) values(t, v) = std::round(4 * values(t, v)) / 2;
    if (t % 11 == 2) values(t, vocabulary / 2) = NAN;
    if (t % 11 == 5) values(t, vocabulary / 3) = HUGE_VAL;
    if (t % 11 == 7) values(t, vocabulary / 3) = -HUGE_VAL;
    for (int64_t v = 0; t % 11 == 9 && v < vocabulary; ++v) values(t, v) = -HUGE_VAL;
    for (int64_t v = 0; t % 11 == 10 && v < vocabulary; ++v) values(t, v) = -1.5;  // all equal
  }
  oracle::write(view, values);
  return view;
}

/// Every option by itself and all together; temperatures at both ends. Penalties are such that f32 does not round.
const std::vector<SamplingOptions>& options() {
  static const std::vector<SamplingOptions> list{
      {.temperature = 0},
      {.temperature = 1, .seed = 3},
      {.temperature = 0.7, .top_k = 3, .seed = 4},
      {.temperature = 1.5, .top_k = 40, .seed = 5},
      {.temperature = 1, .top_p = 0.37, .seed = 6},
      {.temperature = 2.5, .top_p = 0.93, .seed = 7},
      {.temperature = 1, .min_p = 0.06, .seed = 8},
      {.temperature = 1.1, .top_k = 90, .top_p = 0.81, .min_p = 0.03, .seed = 9},
      {.temperature = 1e6, .top_p = 0.49, .seed = 10},
      {.temperature = 1e-30, .top_k = 5, .seed = 11},
      {.temperature = 5e-324, .min_p = 1, .seed = 12},
      {.repetition_penalty = 2, .temperature = 0},
      {.presence_penalty = 1.5, .frequency_penalty = -0.25, .temperature = 0.9, .seed = 1ull << 60},
      {.repetition_penalty = 0.5, .frequency_penalty = 0.5, .temperature = 1.2, .top_k = 200, .top_p = 0.7, .seed = 13},
  };
  return list;
}

View draws(Store& s, int64_t rows) {
  std::vector<int64_t> words;
  for (int64_t t = 0; t < rows; ++t) {
    const uint64_t number = s.draw();
    for (const int32_t word : words_of(token_draw(options()[number % options().size()], number >> 32))) {
      words.push_back(word);
    }
  }
  return s.indices({rows, kDrawWords}, words);
}

/// Every third token is in a sequence, up to four times.
View counts(Store& s, int64_t sequences, int64_t vocabulary) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < sequences * vocabulary; ++i) {
    const uint64_t draw = s.draw();
    values.push_back(draw % 3 == 0 ? static_cast<int64_t>(draw >> 8) % 4 + 1 : 0);
  }
  return s.indices({sequences, vocabulary}, values);
}

/// Rows in another order than their sequences; some are not used.
View sequences(Store& s, int64_t rows) {
  std::vector<int64_t> values;
  for (int64_t t = 0; t < rows; ++t) values.push_back(t % 4 == 3 ? -1 : rows - t);
  return s.indices({rows}, values);
}

}  // namespace

template <>
Cases<NextToken> make_cases<NextToken>() {
  Cases<NextToken> list;
  for (const int64_t rows : {1, 7, 33}) {
    for (const int64_t vocabulary : {1, 5, 300, 5003}) {
      for (const bool masked : {false, true}) {
        for (const int form : {0, 1, 2, 3}) {
          Store& s = list.strided();
          list.add(NextToken{.logits = logits(s, rows, vocabulary),
                             .allowed = masked ? s.random_indices({vocabulary}, 0, 3) : View{},
                             .draws = form > 0 ? draws(s, rows) : View{},
                             .counts = form > 1 ? counts(s, rows + 1, vocabulary) : View{},
                             .sequence = form == 3 ? sequences(s, rows) : View{},
                             .ids = s.poison(i32, {rows}),
                             .positions = s.random_indices({rows}, 0, 4000),
                             .chosen = s.poison(i32, {rows})},
                   masked ? "masked" : "");
        }
      }
    }
  }
  return list;
}

Bounds bounds(const Reference<NextToken>&) { return {}; }

}  // namespace moe::conformance
