#include "eval/causal.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "data/batch_source.h"
#include "eval/document_losses.h"
#include "eval/routing_report.h"
#include "infer/routing_change.h"
#include "infer/scorer.h"
#include "tensor/finite.h"

namespace moe {
namespace {

constexpr int64_t kShared = -1;  // in place of an expert's number

std::vector<int64_t> chosen_layers(const ModelConfig& config, const CausalOptions& options) {
  if (options.layers.empty()) return moe_layer_numbers(config);
  std::vector<int64_t> layers = options.layers;
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

bool has_shared(const ModelConfig& config, const CausalOptions& options) {
  return config.n_shared_experts > 0 && !options.switches.drop_shared;
}

/// The switches with one more mask.
RoutingSwitches without(RoutingSwitches switches, int64_t layer, int64_t expert) {
  if (expert == kShared) {
    switches.without_shared.push_back(layer);
  } else {
    switches.masked.push_back({.layer = layer, .experts = {expert}});
  }
  return switches;
}

/// One batch: its losses without a mask, and what every mask needs of it.
struct Unmasked {
  Batch batch;
  std::vector<float> losses;
  std::vector<int32_t> chosen;             // [MoE layers, T, S]
  std::vector<std::vector<char>> streams;  // the residual stream before each layer that is masked, else empty
};

/// The bytes of some rows of [rows, ...].
std::vector<char> bytes_of_rows(const std::vector<char>& all, int64_t row_count, const std::vector<int64_t>& rows) {
  const auto size = static_cast<int64_t>(all.size()) / row_count;
  std::vector<char> some;
  some.reserve(static_cast<size_t>(size) * rows.size());
  for (const int64_t row : rows) some.insert(some.end(), all.begin() + row * size, all.begin() + (row + 1) * size);
  return some;
}

class Measurement {
 public:
  Measurement(const LoadedModel& model, Device& device, Backend& backend, const Documents& documents,
              const CausalOptions& options)
      : model_(model),
        device_(device),
        options_(options),
        base_(model.with_switches(options.switches)),
        config_(base_.model->config()),
        numbers_(moe_layer_numbers(config_)),
        source_(documents, {.sequence_length = options.sequence_length,
                            .rows_per_step = options.batch_rows,
                            .order = DataOrder::once}),
        domains_(static_cast<int64_t>(documents.domain_names().size())),
        scorer_({*base_.model, model.dtype(), device, backend},
                std::min(options.batch_rows, source_.rows_per_epoch()) * options.sequence_length,
                options.sequence_length, ChosenIds::with_gates, domains_),
        effects_{.unmasked = DocumentNats(static_cast<size_t>(documents.count()), 0.0),
                 .layers = {},
                 .routing = {.layers = config_.moe_layers(),
                             .groups = domains_,
                             .experts = config_.n_routed_experts,
                             .counts = {}},
                 .scores = ExpertScores(config_.moe_layers(), config_.n_routed_experts)} {
    for (const int64_t layer : chosen_layers(config_, options)) {
      CausalLayer& of_layer = effects_.layers.emplace_back(CausalLayer{.layer = layer});
      of_layer.masked.assign(static_cast<size_t>(config_.n_routed_experts), effects_.unmasked);
      if (has_shared(config_, options)) of_layer.unshared = effects_.unmasked;
    }
  }

  CausalEffects run() {
    ChoiceCounts choices;
    for (int64_t step = 0; step < source_.steps_per_epoch(); ++step) {
      const Unmasked unmasked = without_mask(step, choices);
      for (CausalLayer& layer : effects_.layers) {
        for (int64_t expert = 0; expert < config_.n_routed_experts; ++expert) {
          mask(step, unmasked, layer.layer, expert, layer.masked[static_cast<size_t>(expert)]);
        }
        if (layer.unshared) mask(step, unmasked, layer.layer, kShared, *layer.unshared);
      }
    }
    effects_.routing.counts = std::move(choices.chosen);
    effects_.routing.dropped = std::move(choices.dropped);
    return std::move(effects_);
  }

 private:
  Unmasked without_mask(int64_t step, ChoiceCounts& choices) {
    Unmasked unmasked{.batch = source_.rows(step, 0, source_.rows_in_step(step)),
                      .losses = {},
                      .chosen = {},
                      .streams = std::vector<std::vector<char>>(static_cast<size_t>(config_.num_hidden_layers))};
    unmasked.losses = scorer_.losses(unmasked.batch, unmasked.batch.domain, domains_, choices,
                                     [&](int64_t layer, View stream) { keep(layer, stream, unmasked.streams); });
    if (!finite(unmasked.losses)) scorer_.fail_not_finite(unmasked.batch);
    unmasked.chosen = scorer_.chosen_ids();
    effects_.scores.add(unmasked.batch, unmasked.chosen, scorer_.chosen_gates());
    add_document_nats(source_, step, unmasked.batch, unmasked.losses, effects_.unmasked);
    return unmasked;
  }

  void keep(int64_t layer, View stream, std::vector<std::vector<char>>& streams) {
    const auto masks = [&](const CausalLayer& one) { return one.layer == layer; };
    if (std::none_of(effects_.layers.begin(), effects_.layers.end(), masks)) return;
    std::vector<char>& bytes = streams[static_cast<size_t>(layer)];
    bytes.resize(stream.bytes());
    device_.download(bytes.data(), stream.data, bytes.size());
  }

  static bool finite(const std::vector<float>& losses) {
    return first_not_finite(DType::f32, losses.data(), static_cast<int64_t>(losses.size())) < 0;
  }

  /// Adds the losses of the batch to `nats`, with one expert masked.
  void mask(int64_t step, const Unmasked& unmasked, int64_t layer, int64_t expert, DocumentNats& nats) {
    const std::vector<int64_t> rows = changed_rows(unmasked, layer, expert);
    std::vector<float> losses = unmasked.losses;
    if (!rows.empty()) {
      const SwitchedModel masked = model_.with_switches(without(options_.switches, layer, expert));
      const std::vector<float> changed =
          scorer_.losses_from(*masked.model, some_rows(unmasked.batch, rows), layer,
                              bytes_of_rows(unmasked.streams[static_cast<size_t>(layer)], unmasked.batch.rows, rows));
      if (!finite(changed)) {
        fail(
            "the losses are not finite without {} of layer {}: the model's numbers overflow; use a wider type of "
            "weights",
            expert == kShared ? "the shared experts" : fmt::format("expert {}", expert), layer);
      }
      const int64_t length = unmasked.batch.sequence_length;
      for (size_t i = 0; i < rows.size(); ++i) {
        std::copy_n(changed.begin() + static_cast<int64_t>(i) * length, length, losses.begin() + rows[i] * length);
      }
    }
    add_document_nats(source_, step, unmasked.batch, losses, nats);
    rows_done_ += unmasked.batch.rows;
    if (options_.progress) options_.progress(rows_done_, rows_in_all());
  }

  /// The rows whose losses a mask can change: those with a token that chose the expert.
  std::vector<int64_t> changed_rows(const Unmasked& unmasked, int64_t layer, int64_t expert) const {
    const Batch& batch = unmasked.batch;
    std::vector<int64_t> rows(static_cast<size_t>(batch.rows));
    std::iota(rows.begin(), rows.end(), int64_t{0});
    if (expert == kShared || !choosers_alone_feel_masks(config_)) return rows;
    const auto at = std::find(numbers_.begin(), numbers_.end(), layer) - numbers_.begin();
    const int64_t of_row = batch.sequence_length * config_.router().slots();
    std::erase_if(rows, [&](int64_t row) {
      const auto begin = unmasked.chosen.begin() + (at * batch.rows + row) * of_row;
      return std::find(begin, begin + of_row, static_cast<int32_t>(expert)) == begin + of_row;
    });
    return rows;
  }

  int64_t rows_in_all() const {
    int64_t masks = 0;
    for (const CausalLayer& layer : effects_.layers) {
      masks += static_cast<int64_t>(layer.masked.size()) + (layer.unshared ? 1 : 0);
    }
    return masks * source_.rows_per_epoch();
  }

  const LoadedModel& model_;
  Device& device_;
  const CausalOptions& options_;
  SwitchedModel base_;
  const ModelConfig& config_;
  std::vector<int64_t> numbers_;  // of the MoE layers
  BatchSource source_;
  int64_t domains_;
  Scorer scorer_;
  CausalEffects effects_;
  int64_t rows_done_ = 0;
};

}  // namespace

void check_causal(const std::string& model, const ModelConfig& config, const CausalOptions& options) {
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  if (numbers.empty()) fail("{} has no routed experts, so there is none to mask", model);
  const ModelConfig with_switches = switched(config, options.switches);
  for (const int64_t layer : chosen_layers(with_switches, options)) {
    if (std::find(numbers.begin(), numbers.end(), layer) == numbers.end()) {
      fail_usage("--layer {}: {} has routed experts in the layers {}", layer, model, fmt::join(numbers, ", "));
    }
    for (int64_t expert = 0; expert < config.n_routed_experts; ++expert) {
      try {
        switched(config, without(options.switches, layer, expert));
      } catch (const Error& error) {
        fail("expert {} of layer {} cannot be masked: {}", expert, layer, error.what());
      }
    }
  }
}

CausalEffects measure_causal(const LoadedModel& model, Device& device, Backend& backend, const Documents& documents,
                             const CausalOptions& options) {
  check_causal("the model", model.own_config(), options);
  check_predicts(documents);
  return Measurement(model, device, backend, documents, options).run();
}

}  // namespace moe
