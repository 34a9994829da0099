#include <cmath>

#include "tests/conformance/cases.h"
#include "tests/conformance/magnitudes.h"
#include "tests/oracle/array.h"

namespace moe::conformance {
namespace {

/// Small whole numbers, so that many are equal; some rows have a logit that nobody may choose.
View logits(Store& s, int64_t rows, int64_t vocabulary) {
  const View view = s.normal(f32, {rows, vocabulary});
  oracle::Reals values = oracle::read(view);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t v = 0; v < vocabulary; ++v) values(t, v) = std::round(2 * values(t, v));
    if (t % 5 == 2) values(t, vocabulary / 2) = NAN;
    if (t % 5 == 3) values(t, vocabulary / 3) = HUGE_VAL;
    for (int64_t v = 0; t % 5 == 4 && v < vocabulary; ++v) values(t, v) = -HUGE_VAL;
  }
  oracle::write(view, values);
  return view;
}

}  // namespace

template <>
Cases<NextToken> make_cases<NextToken>() {
  Cases<NextToken> list;
  for (const int64_t rows : {1, 7, 33}) {
    for (const int64_t vocabulary : {1, 5, 300, 5003}) {
      for (const bool masked : {false, true}) {
        Store& s = list.strided();
        list.add(NextToken{.logits = logits(s, rows, vocabulary),
                           .allowed = masked ? s.random_indices({vocabulary}, 0, 3) : View{},
                           .ids = s.poison(i32, {rows}),
                           .positions = s.random_indices({rows}, 0, 4000),
                           .log = s.random_indices({3, rows}, 0, 9),
                           .steps = s.random_indices({rows}, 0, 5)},
                 masked ? "masked" : "");
      }
    }
  }
  return list;
}

Bounds bounds(const Reference<NextToken>&) { return {}; }

}  // namespace moe::conformance
