#include "ops/next_token.h"

#include <cmath>

#include "backend/cpu/elements.h"
#include "ops/token_chooser.h"

namespace moe::cpu {
namespace {

int32_t most_likely(std::span<const float> logits, const int32_t* allowed) {
  int64_t best = -1;
  for (size_t v = 0; v < logits.size(); ++v) {
    if (allowed != nullptr && allowed[v] == 0) continue;
    if (!(logits[v] < HUGE_VALF)) return -1;
    if (logits[v] > (best < 0 ? -HUGE_VALF : logits[static_cast<size_t>(best)])) best = static_cast<int64_t>(v);
  }
  return static_cast<int32_t>(best);
}

/// Chooses for row after row, with memory that they share.
class Rows {
 public:
  explicit Rows(const NextToken& op)
      : op_(op), allowed_(op.allowed ? op.allowed.as<const int32_t>() : nullptr), vocabulary_(op.logits.size(1)) {}

  void choose(int64_t t) {
    auto& id = op_.ids.as<int32_t>()[t];
    auto& chosen = op_.chosen.as<int32_t>()[t];
    const int64_t sequence = op_.sequence ? op_.sequence.as<const int32_t>()[t] : t;
    id = 0, chosen = -1;
    if (sequence < 0) return;
    auto* const counts = op_.counts ? row_as<int32_t>(op_.counts, sequence) : nullptr;
    chosen = choice(t, counts);
    ++op_.positions.as<int32_t>()[t];
    if (chosen < 0) return;
    id = chosen;
    if (counts != nullptr) ++counts[chosen];
  }

 private:
  int32_t choice(int64_t t, const int32_t* counts) {
    std::span<const float> logits(row_as<float>(op_.logits, t), static_cast<size_t>(vocabulary_));
    if (!op_.draws) return most_likely(logits, allowed_);
    DrawWords words;
    std::copy_n(row_as<int32_t>(op_.draws, t), kDrawWords, words.begin());
    const TokenDraw draw = draw_of(words);
    if (counts != nullptr && draw.options.penalises()) {
      scores_.assign(logits.begin(), logits.end());
      for (size_t v = 0; v < scores_.size(); ++v) scores_[v] = penalised(scores_[v], counts[v], draw.options);
      logits = scores_;
    }
    if (draw.options.temperature == 0) return most_likely(logits, allowed_);
    const auto index = static_cast<uint64_t>(op_.positions.as<const int32_t>()[t]) + 1;
    return chooser_.choose(logits, allowed_, draw.options, Random(draw.options.seed, draw.stream).uniform(index)).id;
  }

  const NextToken& op_;
  const int32_t* allowed_;
  int64_t vocabulary_;
  TokenChooser chooser_;
  std::vector<float> scores_;
};

}  // namespace

template <>
void execute(Context& context, const NextToken& op) {
  for_rows(context.pool, op.ids.size(0), 2 * op.logits.size(1), [&](int64_t begin, int64_t end) {
    Rows rows(op);
    for (int64_t t = begin; t < end; ++t) rows.choose(t);
  });
}

}  // namespace moe::cpu
