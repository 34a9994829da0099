#include <cmath>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {

void compute(const NextToken& op) {
  const Reals logits = read(op.logits);
  Indices ids(op.ids.shape), positions = read_indices(op.positions), log = read_indices(op.log),
                             steps = read_indices(op.steps);
  for (int64_t t = 0; t < logits.size(0); ++t) {
    int64_t best = -1;
    bool finite = true;
    for (int64_t v = 0; v < logits.size(1); ++v) {
      if (op.allowed && read_indices(op.allowed)(v) == 0) continue;
      finite = finite && !std::isnan(logits(t, v)) && logits(t, v) != HUGE_VAL;
      if (logits(t, v) == -HUGE_VAL) continue;
      if (best < 0 || logits(t, v) > logits(t, best)) best = v;
    }
    ids(t) = finite ? best : -1;
    positions(t) += 1;
    if (steps(t) < log.size(0)) log(steps(t), t) = ids(t);
    steps(t) += 1;
  }
  write(op.ids, ids);
  write(op.positions, positions);
  write(op.log, log);
  write(op.steps, steps);
}

}  // namespace moe::oracle
