#include "infer/decode_graph.h"

namespace moe {

void decode_step(const Model& model, PassArenas& arenas, Backend& backend, DType dtype, const DecodeViews& views,
                 const KvCache& cache) {
  const Arena::Frame frame(arenas.scratch);
  const TokenViews& tokens = views.tokens;
  backend.run(RopeTable{.positions = tokens.positions, .theta = model.config().rope_theta, .table = tokens.rope});
  Pass pass = arenas.pass(backend, dtype);
  StepStats stats;
  stats.ids = views.experts;
  const View h = model.forward(pass, tokens, stats, &cache);
  model.logits(pass, h, views.logits);
  backend.run(NextToken{.logits = views.logits,
                        .allowed = views.allowed,
                        .draws = views.draws,
                        .counts = views.counts,
                        .sequence = tokens.sequence,
                        .ids = tokens.ids,
                        .positions = tokens.positions,
                        .chosen = views.chosen});
}

void DecodeGraph::queue() { decode_step(runtime_.model, arenas_, runtime_.backend, runtime_.dtype, views_, cache_); }

void DecodeGraph::step() {
  // Collectives of ranks are not recorded.
  if (!loaded_ || runtime_.model.asks_ranks()) {
    queue();
    loaded_ = true;
    return;
  }
  if (recording_ == nullptr) recording_ = runtime_.device.record([this] { queue(); });
  recording_->replay();
}

}  // namespace moe
