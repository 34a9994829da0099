#include <algorithm>
#include <cmath>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {
namespace {

struct Token {
  int64_t id;
  double logit, weight;
};

double after_penalties(double logit, int64_t count, const SamplingOptions& o) {
  if (count == 0) return logit;
  if (o.repetition_penalty != 1) logit = logit > 0 ? logit / o.repetition_penalty : logit * o.repetition_penalty;
  return logit - o.presence_penalty - o.frequency_penalty * static_cast<double>(count);
}

/// The tokens that may be drawn, best first.
std::vector<Token> filtered(std::vector<Token> tokens, const SamplingOptions& o) {
  if (o.top_k > 0 && o.top_k < static_cast<int64_t>(tokens.size())) tokens.resize(static_cast<size_t>(o.top_k));
  const double largest = tokens[0].logit;
  double total = 0, mass = 0;
  for (Token& token : tokens) total += token.weight = std::exp((token.logit - largest) / o.temperature);
  size_t kept = 0;
  while (kept < tokens.size() && (kept == 0 || mass < o.top_p * total)) mass += tokens[kept++].weight;
  if (o.top_p < 1) tokens.resize(kept);
  std::erase_if(tokens, [&](const Token& token) { return token.weight < o.min_p; });
  return tokens;
}

int64_t choice(std::vector<Token> tokens, const TokenDraw& draw, int64_t index) {
  for (const Token& token : tokens) {
    if (std::isnan(token.logit) || token.logit == HUGE_VAL) return -1;
  }
  std::stable_sort(tokens.begin(), tokens.end(), [](const Token& a, const Token& b) { return a.logit > b.logit; });
  if (tokens.empty() || tokens[0].logit == -HUGE_VAL) return -1;
  if (draw.options.temperature == 0) return tokens[0].id;
  tokens = filtered(tokens, draw.options);
  std::sort(tokens.begin(), tokens.end(), [](const Token& a, const Token& b) { return a.id < b.id; });
  double total = 0, below = 0;
  for (const Token& token : tokens) total += token.weight;
  const double at = Random(draw.options.seed, draw.stream).uniform(static_cast<uint64_t>(index)) * total;
  for (const Token& token : tokens) {
    below += token.weight;
    if (at < below) return token.id;
  }
  return -1;
}

}  // namespace

void compute(const NextToken& op) {
  const Reals logits = read(op.logits);
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  Indices ids(op.ids.shape), chosen(op.chosen.shape, -1), positions = read_indices(op.positions), counts, allowed,
                                                          sequence, words;
  if (op.counts) counts = read_indices(op.counts);
  if (op.allowed) allowed = read_indices(op.allowed);
  if (op.sequence) sequence = read_indices(op.sequence);
  if (op.draws) words = read_indices(op.draws);
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t s = op.sequence ? sequence(t) : t;
    if (s < 0) continue;
    TokenDraw draw{.options = {.temperature = 0}};
    if (op.draws) {
      DrawWords row;
      for (int w = 0; w < kDrawWords; ++w) row[static_cast<size_t>(w)] = static_cast<int32_t>(words(t, w));
      draw = draw_of(row);
    }
    std::vector<Token> tokens;
    for (int64_t v = 0; v < vocabulary; ++v) {
      if (op.allowed && allowed(v) == 0) continue;
      tokens.push_back({v, after_penalties(logits(t, v), op.counts ? counts(s, v) : 0, draw.options), 0});
    }
    chosen(t) = choice(tokens, draw, ++positions(t));
    ids(t) = std::max<int64_t>(chosen(t), 0);
    if (op.counts && chosen(t) >= 0) ++counts(s, chosen(t));
  }
  write(op.ids, ids);
  write(op.positions, positions);
  write(op.chosen, chosen);
  if (op.counts) write(op.counts, counts);
}

}  // namespace moe::oracle
