// The part of a step that holds and uploads its microbatches.

#include "ops/transfer.h"
#include "train/step.h"

namespace moe {

void TrainingStep::make_batch_buffers() {
  Arena& arena = memory_.batch();
  const DType stat = stat_dtype(step_.dtype);
  const int64_t tokens = step_.microbatch_tokens;
  const int64_t layers = config_.moe_layers();
  const auto integers = [&](const char* name, Shape shape) { return arena.push(name, DType::i32, shape); };
  for (int64_t i = 0; i < step_.waiting(); ++i) places_.push_back(make_batch_place());
  // The results of a step are adjacent: read_report() copies from the first to the last.
  row_loss_ = arena.push("row_loss", stat, {step_.microbatches, tokens});
  counts_ = integers("counts", {layers, 1, config_.n_routed_experts});
  dropped_ = integers("dropped", {layers});
  losses_ = arena.push("router losses", stat, {layers, kRouterLosses});
  norm_ = arena.push("norm", stat, {1});
  if (step_.balance.counts_first()) {
    const Shape by_expert{layers, 1, config_.n_routed_experts};
    sums_ = {.counts = integers("balance.counts", by_expert),
             .reach = integers("balance.reach", {layers, 1, config_.n_group}),
             .importance = arena.push("balance.importance", stat, by_expert),
             .load = arena.push("balance.load", stat, by_expert)};
    if (step_.balance.alpha_communication == 0) sums_.reach = View{};
    if (step_.balance.importance == 0) sums_.importance = View{};
    if (step_.balance.load == 0) sums_.load = View{};
  }
  gradient_scale_ = arena.push("gradient_scale", stat, {1});
  inv_tokens_ = arena.push("inv_tokens", stat, {1});
}

TrainingStep::BatchPlace TrainingStep::make_batch_place() {
  Arena& arena = memory_.batch();
  const int64_t tokens = step_.microbatch_tokens;
  BatchPlace place{.tokens = std::make_unique<TokenBuffers>(arena, stat_dtype(step_.dtype), tokens, config_.head_dim),
                   .group = {},
                   .group_tokens = {}};
  place.group = arena.push("group", DType::i32, {tokens});
  place.group_tokens = arena.push("group_tokens", DType::i32, {tokens});
  return place;
}

TokenViews TrainingStep::upload(const Batch& batch, int64_t place) {
  return places_[static_cast<size_t>(place)].tokens->upload(batch, step_.sequence_length, config_.rope_theta, device_,
                                                            backend_);
}

TrainedBatch TrainingStep::trained(const Batch& batch, int64_t index, int64_t place, const RouteMode& mode) {
  const TokenViews tokens = upload(batch, place);
  const auto& [buffers, group, group_tokens] = places_[static_cast<size_t>(place)];
  BalanceViews balance{.group = tokens.valid, .group_tokens = group_tokens.rows(0, 1), .inv_tokens = inv_tokens_};
  switch (step_.balance.scope) {
    case BalanceScope::sequence:
      balance.group = group.rows(0, tokens.count());
      // A plan's placeholder has as many groups as there could be.
      balance.group_tokens = group_tokens.rows(
          0, batch.segment_tokens.empty() ? tokens.count() : static_cast<int64_t>(batch.segment_tokens.size()));
      upload_vector(device_, group, batch.segment_id);
      upload_vector(device_, group_tokens, batch.segment_tokens);
      break;
    case BalanceScope::microbatch:
      upload_vector(device_, group_tokens, std::vector<int32_t>{static_cast<int32_t>(batch.num_tokens)});
      break;
    case BalanceScope::step:
      break;  // group_tokens is the step's
  }
  return {.tokens = tokens,
          .balance = balance,
          .stats = {.group = tokens.valid, .counts = counts_, .dropped = dropped_, .losses = losses_, .sums = sums_},
          .mode = mode,
          .gradient_scale = gradient_scale_,
          .recompute = step_.recompute,
          .row_loss = row_loss_.at(index).rows(0, tokens.count())};
}

}  // namespace moe
