// The part of a step that computes microbatches in the stages of a pipeline.

#include "train/step.h"

namespace moe {

// 1F1B: stage p of PP first runs PP - 1 - p microbatches forward, then one forward and one backward in turn, and at the
// end the backward passes that are left. A stage that sends to a neighbour which sends to it does both in one exchange,
// so that neither waits for the other.
void TrainingStep::train_in_stages(const std::vector<Batch>& batches, const std::vector<RouteMode>& modes) {
  const ModelStage stage = this->stage();
  const bool first = stage.layers.begin == 0, last = stage.layers.end == config_.num_hidden_layers;
  const auto count = static_cast<int64_t>(batches.size());
  const int64_t ahead = std::min<int64_t>(count, step_.stages - 1 - layout_.stage());
  const Arena::Frame frame(memory_.scratch());
  const Shape shape{step_.microbatch_tokens, config_.hidden_size};
  const View d = memory_.scratch().push("d_hidden", step_.dtype, shape);
  const View out = memory_.scratch().push("last hidden", step_.dtype, shape);

  struct Waiting {
    TrainedBatch batch;
    KeptPass kept;
    View h;  // before the stage's first layer
    size_t mark;
  };
  std::vector<Waiting> waiting(places_.size());
  const auto place_of = [&](int64_t index) { return index % static_cast<int64_t>(places_.size()); };
  const auto of = [&](int64_t index) -> Waiting& { return waiting[static_cast<size_t>(place_of(index))]; };

  const auto input = [&](int64_t index) {
    Arena& arena = memory_.saved(place_of(index));
    of(index).mark = arena.mark();
    return of(index).h = arena.push("hidden", step_.dtype, shape);
  };
  const auto forward = [&](int64_t index) {
    const auto at = static_cast<size_t>(index);
    Pass pass = make_pass(false, false, modes[at], memory_.saved(place_of(index)));
    Waiting& own = of(index);
    own.batch = trained(batches[at], index, place_of(index), modes[at]);
    own.kept = model_->train_forward(pass, memory_.again(), own.batch, gradient_weights_, own.mark, own.h, out);
  };
  const auto backward = [&](int64_t index) {
    Pass pass =
        make_pass(index > 0, index + 1 == step_.microbatches, modes[static_cast<size_t>(index)], memory_.again());
    Waiting& own = of(index);
    model_->train_backward(pass, own.kept, own.batch, gradient_weights_, d, ready_after(index));
  };

  /// What goes to and comes from a neighbour; -1: nothing. A hidden state is that of the microbatch `index`.
  constexpr int64_t kNothing = -1;
  const auto with_stage_before = [&](bool sends, int64_t received) {
    if (received != kNothing) input(received);
    if (first) return;
    std::vector<Parcel> gradients, hidden;
    if (sends) gradients.push_back({d, stage.before()});
    if (received != kNothing) hidden.push_back({of(received).h, stage.before()});
    communicator_.exchange(gradients, hidden);
  };
  const auto with_stage_after = [&](int64_t sent, bool receives) {
    if (last) return;
    std::vector<Parcel> hidden, gradients;
    if (sent != kNothing) hidden.push_back({of(sent).kept.h, stage.after()});
    if (receives) gradients.push_back({d, stage.after()});
    communicator_.exchange(hidden, gradients);
  };

  for (int64_t i = 0; i < ahead; ++i) {
    with_stage_before(false, i);
    forward(i);
    with_stage_after(i, false);
  }
  if (ahead < count) with_stage_before(false, ahead);
  for (int64_t i = ahead; i < count; ++i) {
    const bool more = i + 1 < count;
    forward(i);
    with_stage_after(i, true);
    backward(i - ahead);
    with_stage_before(true, more ? i + 1 : kNothing);
  }
  for (int64_t i = count - ahead; i < count; ++i) {
    with_stage_after(kNothing, true);
    backward(i);
    with_stage_before(true, kNothing);
  }
}

}  // namespace moe
