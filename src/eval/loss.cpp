#include "eval/loss.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "data/batch_source.h"
#include "eval/document_losses.h"
#include "infer/scorer.h"
#include "tensor/finite.h"

namespace moe {
namespace {

constexpr double k95Percent = 1.959963984540054;  // the normal distribution's two-sided 95% point

// The contribution of one document. Documents are the sample for the intervals.
struct DocumentSums {
  double nats = 0;
  double tokens = 0;
  double bytes = 0;
};

// Half the width of the 95% interval of sum nats / sum x.
double ratio_error(const std::vector<DocumentSums>& documents, double DocumentSums::*x) {
  const auto n = static_cast<double>(documents.size());
  double sum_y = 0;
  double sum_x = 0;
  for (const DocumentSums& document : documents) {
    sum_y += document.nats;
    sum_x += document.*x;
  }
  if (n < 2 || sum_x == 0) return std::numeric_limits<double>::quiet_NaN();
  double squares = 0;
  for (const DocumentSums& document : documents) {
    const double residual = document.nats - sum_y / sum_x * document.*x;
    squares += residual * residual;
  }
  return k95Percent / sum_x * std::sqrt(n / (n - 1) * squares);
}

}  // namespace

double Score::loss() const { return nats / static_cast<double>(tokens); }
double Score::perplexity() const { return std::exp(loss()); }
double Score::bits_per_byte() const { return nats / std::numbers::ln2 / static_cast<double>(bytes); }

struct Evaluator::State {
  ModelOnDevice runtime;
  const Documents& documents;
  EvaluationOptions options;
  BatchSource source;
  Scorer scorer;

  State(const ModelOnDevice& where, const Documents& what, const EvaluationOptions& how)
      : runtime(where),
        documents(what),
        options(how),
        source(what,
               {.sequence_length = how.sequence_length, .rows_per_step = how.batch_rows, .order = DataOrder::once}),
        scorer(where, std::min(how.batch_rows, source.rows_per_epoch()) * how.sequence_length, how.sequence_length,
               how.count_choices ? ChosenIds::kept : ChosenIds::forgotten,
               static_cast<int64_t>(what.domain_names().size())) {}

  Score score(std::string name, int32_t domain, const std::vector<double>& document_nats) const;
};

// `domain` -1 means all domains.
Score Evaluator::State::score(std::string name, int32_t domain, const std::vector<double>& document_nats) const {
  Score score{.name = std::move(name)};
  std::vector<DocumentSums> sample;
  for (int64_t document = 0; document < documents.count(); ++document) {
    if (domain >= 0 && documents.domain(document) != domain) continue;
    const int64_t tokens = count_targets(documents, document);
    const int64_t bytes = documents.text_bytes(document);
    const double nats = document_nats[static_cast<size_t>(document)];
    score.documents += 1;
    score.tokens += tokens;
    score.bytes += bytes;
    score.nats += nats;
    sample.push_back({.nats = nats, .tokens = static_cast<double>(tokens), .bytes = static_cast<double>(bytes)});
  }
  score.loss_error = ratio_error(sample, &DocumentSums::tokens);
  score.bits_per_byte_error = ratio_error(sample, &DocumentSums::bytes) / std::numbers::ln2;
  return score;
}

Evaluator::Evaluator(const ModelOnDevice& runtime, const Documents& documents, EvaluationOptions options) {
  MOE_CHECK(options.sequence_length > 0 && options.batch_rows > 0);
  state_ = std::make_unique<State>(runtime, documents, options);
  check_predicts(documents);
}

Evaluator::~Evaluator() = default;

EvaluationResult Evaluator::run() {
  State& state = *state_;
  const ModelConfig& config = state.runtime.model.config();
  const auto& domains = state.documents.domain_names();
  EvaluationResult result;
  if (config.moe_layers() > 0) {
    result.routing = {.layers = config.moe_layers(),
                      .groups = static_cast<int64_t>(domains.size()),
                      .experts = config.n_routed_experts,
                      .counts = {}};
  }
  std::vector<double> document_nats(static_cast<size_t>(state.documents.count()), 0.0);
  ChoiceCounts choices;
  std::optional<ChoiceCounter> counter;
  if (state.options.count_choices && config.moe_layers() > 0) {
    counter.emplace(state.documents, config.moe_layers(), config.n_routed_experts, state.options.min_count);
  }
  int64_t rows_done = 0;
  for (int64_t step = 0; step < state.source.steps_per_epoch(); ++step) {
    const Batch batch = state.source.rows(step, 0, state.source.rows_in_step(step));
    const std::vector<float> losses = state.scorer.losses(batch, batch.domain, result.routing.groups, choices);
    if (first_not_finite(DType::f32, losses.data(), static_cast<int64_t>(losses.size())) >= 0) {
      state.scorer.fail_not_finite(batch);
    }
    add_document_nats(state.source, step, batch, losses, document_nats);
    if (counter) counter->add(batch, state.scorer.chosen_ids());
    rows_done += batch.rows;
    if (state.options.progress) state.options.progress(rows_done, state.source.rows_per_epoch());
  }
  result.routing.counts = std::move(choices.chosen);
  result.routing.dropped = std::move(choices.dropped);
  if (counter) result.choices = counter->statistics();
  for (size_t domain = 0; domain < domains.size(); ++domain) {
    result.domains.push_back(state.score(domains[domain], static_cast<int32_t>(domain), document_nats));
  }
  result.all = state.score("all", -1, document_nats);
  if (state.options.keep_documents) result.document_nats = std::move(document_nats);
  return result;
}

EvaluationResult evaluate(const ModelOnDevice& runtime, const Documents& documents, const EvaluationOptions& options) {
  return Evaluator(runtime, documents, options).run();
}

}  // namespace moe
