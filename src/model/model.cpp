#include "model/model.h"

#include <algorithm>
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

Model::Model(const ModelConfig& config, const BalanceConfig& balance, ModelWeights weights, const ExpertRanks& ranks)
    : config_(config), decoder_(config.decoder(balance)), weights_(std::move(weights)) {
  decoder_.moe.ranks = ranks;
  int64_t next = 0;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    moe_index_.push_back(config.is_moe_layer(layer) ? next++ : -1);
  }
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
  size_t first = weights_.layers.size();
  visit_parameters(config_, gradients, [&](int64_t layer, const ParameterInfo& info, const View& gradient) {
    const bool before_all = info.role == ParameterRole::embedding;
    if (gradient && (before_all || layer >= 0))
      first = std::min(first, static_cast<size_t>(std::max<int64_t>(layer, 0)));
  });
  return first;
}

View Model::forward(Pass& pass, const TokenViews& tokens, const StepStats& stats, const KvCache* cache,
                    const RouteMode& mode, const std::function<void(int64_t, View)>& watch) const {
  const View h = pass.temporary("hidden", {tokens.count(), config_.hidden_size});
  pass.backend.run(Embed{.tokens = tokens.ids, .table = weights_.embedding, .y = h});
  return forward_from(pass, tokens, stats, 0, h, cache, mode, watch);
}

View Model::forward_from(Pass& pass, const TokenViews& tokens, const StepStats& stats, int64_t first, View h,
                         const KvCache* cache, const RouteMode& mode,
                         const std::function<void(int64_t, View)>& watch) const {
  View next = pass.temporary("hidden", h.shape);
  if (watch) watch(first, h);
  for (auto layer = static_cast<size_t>(first); layer < weights_.layers.size(); ++layer) {
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

void Model::train(Pass& pass, const TokenViews& tokens, const BalanceViews& balance, const StepStats& stats,
                  const RouteMode& mode, View gradient_scale, bool recompute, const ModelWeights& gradients,
                  View row_loss, const GradientsReady& ready) const {
  struct LayerState {
    size_t mark;
    View h;
    RouteChoice choice;
    DecoderSaved saved;
  };
  const auto context_of = [&](size_t layer) {
    return LayerContext{.tokens = tokens,
                        .groups = balance,
                        .stats = stats.layer(moe_index_[layer]),
                        .mode = mode,
                        .layer = static_cast<int64_t>(layer)};
  };
  const Arena::Frame saved_frame(pass.saved);
  const Arena::Frame scratch_frame(pass.scratch);
  const Shape shape{tokens.count(), config_.hidden_size};
  std::vector<LayerState> states;
  const View d = pass.temporary("d_hidden", shape);
  const size_t behind_d = pass.scratch.mark();
  View h = pass.save("hidden", shape);
  const size_t first = first_trained_layer(gradients);
  {
    const Arena::Frame frame(pass.scratch);
    View next = first == 0 ? View{} : pass.temporary("hidden", shape);
    if (first % 2 != 0) std::swap(h, next);  // so that the last of these layers writes to saved memory
    pass.backend.run(Embed{.tokens = tokens.ids, .table = weights_.embedding, .y = h});
    for (size_t layer = 0; layer < first; ++layer) {
      forward_layer(pass, context_of(layer), h, next);
      std::swap(h, next);
    }
  }
  for (size_t layer = first; layer < weights_.layers.size(); ++layer) {
    LayerState state{.mark = pass.saved.mark(), .h = h, .choice = {}, .saved = {}};
    // Backward of the last layer, when most is saved, does not need what came out of it.
    const bool last = layer + 1 == weights_.layers.size();
    const View h_out = last ? pass.temporary("last hidden", shape) : pass.save("hidden", shape);
    LayerContext context = context_of(layer);
    state.choice = context.choice = save_choice(pass, context);
    const size_t inner_mark = pass.saved.mark();
    state.saved = decoder_forward(pass, decoder_, weights_.layers[layer], context, h, h_out);
    if (recompute) pass.saved.release(inner_mark);
    states.push_back(state);
    h = h_out;
  }

  {
    const Arena::Frame head_frame(pass.saved);
    const HeadSaved head = head_norm(pass, weights_.head, decoder_.norm_eps, h);
    head_backward(pass, weights_.head, gradients.head, head, h, tokens.targets, tokens.weights, gradient_scale,
                  row_loss, d);
  }
  pass.scratch.release(behind_d);
  const auto tell = [&](int64_t layer) {
    if (ready) ready(layer);
  };
  tell(config_.num_hidden_layers);

  for (size_t layer = weights_.layers.size(); layer-- > first;) {
    LayerState& state = states[layer - first];
    LayerContext context = context_of(layer);
    context.choice = state.choice;
    context.replay = true;
    // A second forward must not count or add losses again.
    context.stats.counts = context.stats.dropped = context.stats.losses = View{};
    const Arena::Frame frame(pass.scratch);
    if (recompute) {
      const View again = pass.temporary("recomputed", shape);
      state.saved = decoder_forward(pass, decoder_, weights_.layers[layer], context, state.h, again);
    }
    const bool down = layer > first || gradients.embedding;  // somebody trains below this layer
    decoder_backward(pass, decoder_, weights_.layers[layer], gradients.layers[layer], context, state.saved, state.h, d,
                     down);
    pass.saved.release(state.mark);
    tell(static_cast<int64_t>(layer));
  }
  if (gradients.embedding)
    pass.backend.run(EmbedBackward{.tokens = tokens.ids, .dy = d, .d_table = gradients.embedding});
  tell(-1);
}

void Model::logits(Pass& pass, View h, View logits) const {
  const Arena::Frame frame(pass.saved);
  head_logits(pass, weights_.head, head_norm(pass, weights_.head, decoder_.norm_eps, h).normed, logits);
}

void Model::loss(Pass& pass, View h, View targets, View row_loss) const {
  const Arena::Frame frame(pass.saved);
  head_loss(pass, weights_.head, head_norm(pass, weights_.head, decoder_.norm_eps, h).normed, targets, row_loss);
}

}  // namespace moe
