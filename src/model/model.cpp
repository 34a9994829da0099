#include "model/model.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace moe {

LayerStats StepStats::layer(int64_t moe_index) const {
  if (moe_index < 0) return {};
  const auto part = [&](const View& view) { return view ? view.at(moe_index) : View{}; };
  const auto scalar = [&](const View& view) { return view ? view.rows(moe_index, 1) : View{}; };
  return {.group = group,
          .counts = part(counts),
          .ids = part(ids),
          .gates = part(gates),
          .dropped = scalar(dropped),
          .losses = part(losses),
          .sums = {.counts = part(sums.counts),
                   .reach = part(sums.reach),
                   .importance = part(sums.importance),
                   .load = part(sums.load)},
          .collect = collect};
}

Model::Model(const ModelConfig& config, const BalanceConfig& balance, ModelWeights weights, const ExpertRanks& ranks,
             const ModelStage& stage)
    : config_(config),
      decoder_(config.decoder(balance)),
      weights_(std::move(weights)),
      stage_(stage),
      layers_(stage ? stage.layers : LayerRange{0, config.num_hidden_layers}) {
  decoder_.moe.ranks = ranks;
  int64_t next = 0;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    moe_index_.push_back(config.is_moe_layer(layer) ? next++ : -1);
  }
}

HeldModel Model::held() const {
  const ExpertRanks& ranks = decoder_.moe.ranks;
  const int64_t expert_ranks = ranks ? ranks.size() : 1, member = ranks ? ranks.member() : 0;
  const int64_t stages = stage_ ? stage_.group.count : 1;
  const int64_t stage = stage_ ? stage_.group.member(stage_.communicator->rank()) : 0;
  return {config_, {.expert = expert_ranks, .pipeline = stages}, stage * expert_ranks + member};
}

ModelPart part_of(const HeldModel& held, Communicator& communicator) {
  MOE_CHECK(communicator.rank() == held.rank && communicator.size() == held.layout.ranks());
  const auto expert_ranks = static_cast<int>(held.layout.expert), stages = static_cast<int>(held.layout.pipeline);
  const auto member = static_cast<int>(position_of(held.layout, held.rank).expert);
  const RankGroup neighbours{.first = communicator.rank() - member, .count = expert_ranks, .step = 1};
  const RankGroup pipeline{.first = member, .count = stages, .step = expert_ranks};
  ModelPart part;
  if (expert_ranks > 1) part.experts = {&communicator, neighbours};
  if (stages > 1) part.stage = {.communicator = &communicator, .group = pipeline, .layers = held.layers()};
  if (part.experts && part.stage) communicator.prepare({neighbours, pipeline});
  return part;
}

RouteChoice Model::save_choice(Pass& pass, const LayerContext& context) const {
  if (!config_.is_moe_layer(context.layer)) return {};
  const RouterConfig& router = decoder_.moe.router;
  const Shape shape{context.tokens.count(), router.slots()};
  const View &ids = context.stats.ids, &gates = context.stats.gates;
  // What is wanted of the choice is written directly to its place, so that nothing copies it.
  return {.ids = ids ? ids : pass.saved.push("choice.ids", DType::i32, shape),
          .gates = gates ? gates : pass.saved.push("choice.gates", pass.stat(), shape),
          .kept = router.drops() ? pass.saved.push("choice.kept", DType::i32, shape) : View{}};
}

void Model::forward_layer(Pass& pass, LayerContext context, View h, View h_out) const {
  const Arena::Frame frame(pass.saved);
  context.choice = save_choice(pass, context);
  decoder_forward(pass, decoder_, weights_.layers[static_cast<size_t>(context.layer)], context, h, h_out);
}

size_t Model::first_trained_layer(ModelWeights gradients) const {
  if (!is_first()) return static_cast<size_t>(layers_.begin);
  auto first = static_cast<size_t>(layers_.end);
  visit_parameters(config_, gradients, [&](int64_t layer, const ParameterInfo& info, const View& gradient) {
    const bool before_all = info.role == ParameterRole::embedding;
    if (gradient && (before_all || layer >= 0))
      first = std::min(first, static_cast<size_t>(std::max<int64_t>(layer, 0)));
  });
  return first;
}

View Model::forward(Pass& pass, const TokenViews& tokens, const StepStats& stats, const KvCache* cache,
                    const RouteMode& mode, const std::function<void(int64_t, View)>& watch) const {
  View h = pass.temporary("hidden", {tokens.count(), config_.hidden_size});
  if (is_first()) {
    pass.backend.run(Embed{.tokens = tokens.ids, .table = weights_.embedding, .y = h});
  } else {
    stage_.communicator->exchange({}, {{h, stage_.before()}});
  }
  h = forward_from(pass, tokens, stats, layers_.begin, h, cache, mode, watch);
  if (!is_last()) stage_.communicator->exchange({{h, stage_.after()}}, {});
  if (stage_) share_layers(stats);
  return h;
}

View Model::forward_from(Pass& pass, const TokenViews& tokens, const StepStats& stats, int64_t first, View h,
                         const KvCache* cache, const RouteMode& mode,
                         const std::function<void(int64_t, View)>& watch) const {
  View next = pass.temporary("hidden", h.shape);
  if (watch) watch(first, h);
  for (auto layer = static_cast<size_t>(first); layer < static_cast<size_t>(layers_.end); ++layer) {
    forward_layer(pass,
                  {.tokens = tokens,
                   .stats = stats.layer(moe_index_[layer]),
                   .mode = mode,
                   .layer = static_cast<int64_t>(layer),
                   .cache = cache == nullptr ? nullptr : &cache->layers[layer]},
                  h, next);
    std::swap(h, next);
    if (watch) watch(static_cast<int64_t>(layer) + 1, h);
  }
  return h;
}

namespace {

LayerContext context_of(const TrainedBatch& batch, int64_t moe_index, size_t layer) {
  return {.tokens = batch.tokens,
          .groups = batch.balance,
          .stats = batch.stats.layer(moe_index),
          .mode = batch.mode,
          .layer = static_cast<int64_t>(layer)};
}

}  // namespace

void Model::train(Pass& pass, const TrainedBatch& batch, const ModelWeights& gradients,
                  const GradientsReady& ready) const {
  const Arena::Frame scratch_frame(pass.scratch);
  const Shape shape{batch.tokens.count(), config_.hidden_size};
  const View d = pass.temporary("d_hidden", shape);
  const size_t behind_d = pass.scratch.mark(), mark = pass.saved.mark();
  const View h = pass.save("hidden", shape);
  KeptPass kept = train_forward(pass, pass.saved, batch, gradients, mark, h, {});
  if (batch.before) batch.before(config_.num_hidden_layers);
  head_forward_backward(pass, kept, batch, gradients, d);
  pass.scratch.release(behind_d);
  train_backward(pass, kept, batch, gradients, d, ready);
}

KeptPass Model::train_forward(Pass& pass, Arena& again, const TrainedBatch& batch, const ModelWeights& gradients,
                              size_t mark, View h, View out) const {
  const TokenViews& tokens = batch.tokens;
  const Shape shape{tokens.count(), config_.hidden_size};
  KeptPass kept{.arena = &pass.saved, .mark = mark, .layers = {}};
  Pass again_pass = pass.saving_in(again);
  const size_t first = first_trained_layer(gradients);
  const auto before = [&](int64_t place) {
    if (batch.before) batch.before(place);
  };
  if (is_first()) {
    before(-1);
    const Arena::Frame frame(pass.scratch);
    View next = first == 0 ? View{} : pass.temporary("hidden", shape);
    if (first % 2 != 0) std::swap(h, next);  // so that the last of these layers writes to saved memory
    pass.backend.run(Embed{.tokens = tokens.ids, .table = weights_.embedding, .y = h});
    for (size_t layer = 0; layer < first; ++layer) {
      before(static_cast<int64_t>(layer));
      forward_layer(again_pass, context_of(batch, moe_index_[layer], layer), h, next);
      std::swap(h, next);
    }
  }
  const auto end = static_cast<size_t>(layers_.end);
  for (size_t layer = first; layer < end; ++layer) {
    before(static_cast<int64_t>(layer));
    KeptPass::Layer state{.mark = pass.saved.mark(), .h = h, .choice = {}, .saved = {}};
    // Backward of the last layer, when most is saved, does not need what came out of it.
    const bool last = layer + 1 == end;
    const View h_out = !last ? pass.save("hidden", shape) : out ? out : pass.temporary("last hidden", shape);
    LayerContext context = context_of(batch, moe_index_[layer], layer);
    state.choice = context.choice = save_choice(pass, context);
    const size_t inner_mark = again.mark();
    state.saved =
        decoder_forward(batch.recompute ? again_pass : pass, decoder_, weights_.layers[layer], context, h, h_out);
    if (batch.recompute) again.release(inner_mark);
    kept.layers.push_back(state);
    h = h_out;
  }
  kept.h = h;
  return kept;
}

void Model::head_forward_backward(Pass& pass, const KeptPass& kept, const TrainedBatch& batch,
                                  const ModelWeights& gradients, View d) const {
  const Arena::Frame frame(pass.saved);
  const HeadSaved head = head_norm(pass, weights_.head, decoder_.norm_eps, kept.h);
  head_backward(pass, weights_.head, gradients.head, head, kept.h, batch.tokens.targets, batch.tokens.weights,
                batch.gradient_scale, batch.row_loss, d);
}

void Model::train_backward(Pass& pass, KeptPass& kept, const TrainedBatch& batch, const ModelWeights& gradients, View d,
                           const GradientsReady& ready) const {
  const Shape shape{batch.tokens.count(), config_.hidden_size};
  const auto tell = [&](int64_t layer) {
    if (ready) ready(layer);
  };
  if (is_last()) {
    if (stage_) head_forward_backward(pass, kept, batch, gradients, d);
    tell(config_.num_hidden_layers);
  }
  const size_t first = static_cast<size_t>(layers_.end) - kept.layers.size();
  for (auto layer = static_cast<size_t>(layers_.end); layer-- > first;) {
    KeptPass::Layer& state = kept.layers[layer - first];
    LayerContext context = context_of(batch, moe_index_[layer], layer);
    context.choice = state.choice;
    context.replay = true;
    // A second forward must not count or add losses again.
    context.stats.counts = context.stats.dropped = context.stats.losses = View{};
    const Arena::Frame frame(pass.scratch);
    const size_t mark = pass.saved.mark();
    if (batch.recompute) {
      const View result = pass.temporary("recomputed", shape);
      state.saved = decoder_forward(pass, decoder_, weights_.layers[layer], context, state.h, result);
    }
    // Somebody trains below this layer.
    const bool down = layer > first || !is_first() || gradients.embedding;
    decoder_backward(pass, decoder_, weights_.layers[layer], gradients.layers[layer], context, state.saved, state.h, d,
                     down);
    pass.saved.release(mark);
    kept.arena->release(state.mark);
    tell(static_cast<int64_t>(layer));
  }
  if (is_first()) {
    if (gradients.embedding) {
      pass.backend.run(EmbedBackward{.tokens = batch.tokens.ids, .dy = d, .d_table = gradients.embedding});
    }
    tell(-1);
  }
  kept.arena->release(kept.mark);
}

int64_t Model::least_of_stages(int64_t own) const {
  if (!stage_) return own;
  for (const std::string& bytes : stage_.communicator->gather({reinterpret_cast<const char*>(&own), sizeof(own)})) {
    int64_t number = 0;
    MOE_CHECK(bytes.size() == sizeof(number));
    std::memcpy(&number, bytes.data(), sizeof(number));
    own = std::min(own, number);
  }
  return own;
}

void Model::share(View result) const {
  if (stage_) stage_.communicator->broadcast(result, stage_.group.rank(stage_.group.count - 1), stage_.group);
}

void Model::share_layers(const StepStats& stats) const {
  const auto ranges = stage_layers(config_.num_hidden_layers, stage_.group.count);
  for (const View& view : {stats.ids, stats.gates, stats.counts, stats.dropped}) {
    int64_t begin = 0;
    for (int stage = 0; view && stage < stage_.group.count; ++stage) {
      const LayerRange& layers = ranges[static_cast<size_t>(stage)];
      int64_t count = 0;
      for (int64_t layer = layers.begin; layer < layers.end; ++layer) count += config_.is_moe_layer(layer) ? 1 : 0;
      if (count > 0) stage_.communicator->broadcast(view.rows(begin, count), stage_.group.rank(stage), stage_.group);
      begin += count;
    }
  }
}

void Model::logits(Pass& pass, View h, View logits) const {
  const Arena::Frame frame(pass.saved);
  if (is_last()) {
    head_logits(pass, weights_.head, head_norm(pass, weights_.head, decoder_.norm_eps, h).normed, logits);
  }
  share(logits);
}

void Model::loss(Pass& pass, View h, View targets, View row_loss) const {
  const Arena::Frame frame(pass.saved);
  if (is_last()) {
    head_loss(pass, weights_.head, head_norm(pass, weights_.head, decoder_.norm_eps, h).normed, targets, row_loss);
  }
  share(row_loss);
}

}  // namespace moe
