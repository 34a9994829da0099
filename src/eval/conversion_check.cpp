#include "eval/conversion_check.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "data/batch_source.h"
#include "infer/scorer.h"
#include "infer/streamed_model.h"
#include "tensor/finite.h"

namespace moe {
namespace {

ChosenIds ids_of(const ModelConfig& config) { return config.moe_layers() > 0 ? ChosenIds::kept : ChosenIds::forgotten; }

int64_t size_of(const Batch& batch) { return static_cast<int64_t>(batch.tokens.size()); }

MemoryDocuments first_tokens(const Documents& documents, int64_t most) {
  MemoryDocuments first;
  const int32_t domain = first.add_domain("all");
  for (int64_t i = 0; i < documents.count() && most > 0; ++i) {
    std::vector<int32_t> tokens(static_cast<size_t>(std::min(most, documents.length(i))));
    documents.copy_tokens(i, 0, static_cast<int64_t>(tokens.size()), tokens.data());
    most -= static_cast<int64_t>(tokens.size());
    first.add(std::move(tokens), domain, 0);
  }
  return first;
}

Batch packed(const Documents& documents, int64_t row) {
  const BatchSource source(
      documents,
      {.sequence_length = row, .rows_per_step = std::numeric_limits<int32_t>::max(), .order = DataOrder::once});
  return source.rows(0, 0, source.rows_in_step(0));
}

}  // namespace

Batch check_batch(const Documents& documents, const ModelConfig& config, const CheckLimits& limits) {
  constexpr int64_t kLeast = 2;
  for (int64_t tokens = limits.tokens; tokens >= kLeast; tokens /= 2) {
    const MemoryDocuments first = first_tokens(documents, tokens);
    const Batch batch = packed(first, std::min(config.max_position_embeddings, tokens));
    if (batch.num_targets == 0) {
      fail("no document has two tokens or more, so there is nothing to predict; check the conversion on longer text");
    }
    const int64_t bytes = Scorer::bytes(config, DType::f32, size_of(batch), batch.sequence_length, ids_of(config));
    if (bytes <= limits.bytes) return batch;
  }
  fail("two tokens of this model need more than {} MiB, which the check of a conversion may use; leave it out",
       limits.bytes >> 20);
}

CheckedModel run_check(const WeightSource& source, const Batch& batch, Device& device, Backend& backend,
                       ThreadPool& pool, const std::function<void(int64_t layer)>& progress) {
  const StreamedModel model(source, device, backend, pool, {.progress = progress});
  const ChosenIds ids = ids_of(source.config());
  Scorer scorer(model.runtime(), size_of(batch), batch.sequence_length, ids);
  const std::vector<float> losses = scorer.losses(batch);
  if (first_not_finite(DType::f32, losses.data(), static_cast<int64_t>(losses.size())) >= 0) {
    scorer.fail_not_finite(batch);
  }
  CheckedModel checked{.nats = std::accumulate(losses.begin(), losses.end(), 0.0), .chosen = {}};
  if (ids == ChosenIds::kept) checked.chosen = scorer.chosen_ids();
  return checked;
}

std::vector<SameChoices> same_choices(const ModelConfig& config, const CheckedModel& before,
                                      const CheckedModel& after) {
  MOE_CHECK(before.chosen.size() == after.chosen.size());
  std::vector<SameChoices> layers;
  const int64_t slots = config.router().slots();
  const int64_t of_layer = static_cast<int64_t>(before.chosen.size()) / std::max<int64_t>(config.moe_layers(), 1);
  auto* at = before.chosen.data();
  auto* other = after.chosen.data();
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (!config.is_moe_layer(layer)) continue;
    SameChoices choices{.layer = layer};
    for (const auto* const end = at + of_layer; at < end; at += slots, other += slots) {
      choices.all += std::count_if(at, at + slots, [](int32_t expert) { return expert >= 0; });
      choices.same += std::count_if(at, at + slots, [&](int32_t expert) {
        return expert >= 0 && std::find(other, other + slots, expert) != other + slots;
      });
    }
    layers.push_back(choices);
  }
  return layers;
}

}  // namespace moe
