#include "nn/head.h"

#include <algorithm>

#include "nn/norm.h"

namespace moe {
namespace {

/// Calls use(pass, first row, rows) for each chunk.
template <class Use>
void for_each_chunk(const Pass& pass, int64_t rows, int64_t vocabulary, Use use) {
  const int64_t chunk = head_chunk_rows(vocabulary, pass.logits_per_chunk);
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    Pass of_chunk = pass;
    of_chunk.adapter_dropout.first_token += begin;
    use(of_chunk, begin, std::min(chunk, rows - begin));
  }
}

}  // namespace

int64_t head_chunk_rows(int64_t vocabulary, int64_t logits) { return std::max<int64_t>(64, logits / vocabulary); }

HeadSaved head_norm(Pass& pass, const HeadWeights& weights, float eps, View h) {
  HeadSaved saved{.normed = pass.save("head.normed", h.shape),
                  .inv_rms = pass.saved.push("head.inv_rms", pass.stat(), {h.size(0)})};
  pass.backend.run(RmsNorm{.x = h, .gain = weights.norm, .eps = eps, .y = saved.normed, .inv_rms = saved.inv_rms});
  return saved;
}

void head_logits(Pass& pass, const HeadWeights& weights, View normed, View logits) {
  linear_forward(pass, weights.project, normed, logits);
}

void head_loss(Pass& all, const HeadWeights& weights, View normed, View targets, View row_loss) {
  const int64_t vocabulary = weights.project.outputs();
  for_each_chunk(all, normed.size(0), vocabulary, [&](Pass& pass, int64_t begin, int64_t count) {
    const Arena::Frame frame(pass.scratch);
    const View logits = pass.scratch.push("head.logits", pass.stat(), {count, vocabulary});
    head_logits(pass, weights, normed.rows(begin, count), logits);
    pass.backend.run(
        CrossEntropy{.logits = logits, .targets = targets.rows(begin, count), .row_loss = row_loss.rows(begin, count)});
  });
}

void head_backward(Pass& all, const HeadWeights& weights, const HeadWeights& gradients, const HeadSaved& saved, View h,
                   View targets, View loss_weights, View gradient_scale, View row_loss, View d) {
  const Arena::Frame frame(all.scratch);
  const int64_t vocabulary = weights.project.outputs();
  const View d_normed = all.temporary("head.d_normed", h.shape);
  for_each_chunk(all, h.size(0), vocabulary, [&](Pass& pass, int64_t begin, int64_t count) {
    const Arena::Frame chunk_frame(pass.scratch);
    const View logits = pass.scratch.push("head.logits", pass.stat(), {count, vocabulary});
    // In the activations' type, so that both operands of the two following products have one type.
    const View d_logits = pass.dtype == pass.stat() ? logits : pass.temporary("head.d_logits", {count, vocabulary});
    const View normed = saved.normed.rows(begin, count);
    head_logits(pass, weights, normed, logits);
    pass.backend.run(CrossEntropy{.logits = logits,
                                  .targets = targets.rows(begin, count),
                                  .weights = loss_weights ? loss_weights.rows(begin, count) : View{},
                                  .gradient_scale = gradient_scale,
                                  .d_logits = d_logits,
                                  .row_loss = row_loss.rows(begin, count)});
    const View d_low = linear_input_gradient(pass, weights.project, d_logits, d_normed.rows(begin, count));
    linear_weight_gradient(pass, weights.project, gradients.project, d_logits, normed, d_low, begin > 0);
  });
  all.backend.run(Fill{.x = d, .value = 0});
  norm_backward(all, weights.norm, gradients.norm, saved.inv_rms, d_normed, h, d);
}

}  // namespace moe
