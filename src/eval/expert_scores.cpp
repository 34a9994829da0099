#include "eval/expert_scores.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "data/batch_source.h"
#include "data/order.h"
#include "infer/scorer.h"
#include "tensor/finite.h"

namespace moe {
namespace {

/// Sums that differ by less than this part of the total count as equal.
constexpr double kRounding = 1e-12;

}  // namespace

const char* name(ExpertRule rule) { return rule == ExpertRule::token ? "token" : "gate"; }

ExpertScores::ExpertScores(int64_t of_layers, int64_t of_experts)
    : layers(of_layers),
      experts(of_experts),
      chosen(static_cast<size_t>(of_layers * of_experts)),
      gates(chosen.size()),
      choices(static_cast<size_t>(of_layers)) {}

void ExpertScores::add(const Batch& batch, std::span<const int32_t> ids, std::span<const float> values) {
  const size_t all = batch.tokens.size(), of_layers = static_cast<size_t>(layers);
  const size_t slots = ids.size() / (of_layers * all);
  MOE_CHECK(ids.size() == of_layers * all * slots && values.size() == ids.size());
  for (size_t layer = 0; layer < of_layers; ++layer) {
    for (size_t t = 0; t < all; ++t) {
      if (batch.domain[t] < 0) continue;
      for (size_t slot = (layer * all + t) * slots, end = slot + slots; slot < end; ++slot) {
        if (ids[slot] < 0) continue;
        const size_t at = layer * static_cast<size_t>(experts) + static_cast<size_t>(ids[slot]);
        chosen[at] += 1;
        gates[at] += values[slot];
        choices[layer] += 1;
      }
    }
  }
  tokens += batch.num_tokens;
}

std::span<const double> ExpertScores::sums(ExpertRule rule, int64_t layer) const {
  const std::vector<double>& all = rule == ExpertRule::token ? chosen : gates;
  return std::span(all).subspan(static_cast<size_t>(layer * experts), static_cast<size_t>(experts));
}

double ExpertScores::total(ExpertRule rule, int64_t layer) const {
  return rule == ExpertRule::token ? choices[static_cast<size_t>(layer)] : static_cast<double>(tokens);
}

std::vector<int64_t> choose_experts(std::span<const double> sums, double total, double p) {
  std::vector<int64_t> order(sums.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return sums[static_cast<size_t>(a)] > sums[static_cast<size_t>(b)]; });
  std::vector<int64_t> chosen;
  double reached = 0;
  for (const int64_t expert : order) {
    if (reached >= (p - kRounding) * total) break;
    chosen.push_back(expert);
    reached += sums[static_cast<size_t>(expert)];
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

ExpertScores score_experts(const ModelOnDevice& runtime, const Documents& documents,
                           const ExpertScoreOptions& options) {
  const ModelConfig& config = runtime.model.config();
  const BatchSource source(
      documents,
      {.sequence_length = options.sequence_length, .rows_per_step = options.batch_rows, .order = DataOrder::once});
  const int64_t rows = std::min(options.batch_rows, source.rows_per_epoch());
  Scorer scorer(runtime, rows * options.sequence_length, options.sequence_length, ChosenIds::with_gates);
  ExpertScores scores(config.moe_layers(), config.n_routed_experts);
  int64_t done = 0;
  for (int64_t step = 0; step < source.steps_per_epoch(); ++step) {
    const Batch batch = source.rows(step, 0, source.rows_in_step(step));
    const std::vector<float> losses = scorer.losses(batch);
    if (first_not_finite(DType::f32, losses.data(), static_cast<int64_t>(losses.size())) >= 0) {
      scorer.fail_not_finite(batch);
    }
    scores.add(batch, scorer.chosen_ids(), scorer.chosen_gates());
    done += batch.rows;
    if (options.progress) options.progress(done, source.rows_per_epoch());
  }
  return scores;
}

ShuffledStart::ShuffledStart(const Documents& all, uint64_t seed, int64_t most_tokens) : all_(all) {
  for (const int64_t document : shuffled(all.count(), seed, hash_name("data.documents"))) {
    if (tokens_ >= most_tokens) break;
    order_.push_back(document);
    tokens_ += all.length(document);
  }
  cut_ = std::max<int64_t>(tokens_ - most_tokens, 0);
  tokens_ -= cut_;
}

int64_t ShuffledStart::length(int64_t document) const {
  return all_.length(at(document)) - (document + 1 == count() ? cut_ : 0);
}

}  // namespace moe
