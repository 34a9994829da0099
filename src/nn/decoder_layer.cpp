#include "nn/decoder_layer.h"

#include "nn/moe_of_few.h"
#include "nn/norm.h"

namespace moe {
namespace {

/// RMSNorm(x) as forward made it: `kept`, or made again, in memory of the caller's frame.
View normed(Pass& pass, const DecoderConfig& config, View kept, View x, View gain, View inv_rms) {
  if (kept) return kept;
  const View again = pass.temporary("normed again", x.shape);
  pass.backend.run(RmsNorm{.x = x, .gain = gain, .eps = config.norm_eps, .y = again, .inv_rms = inv_rms});
  return again;
}

}  // namespace

DecoderSaved decoder_forward(Pass& pass, const DecoderConfig& config, const DecoderWeights& weights,
                             const LayerContext& context, View h, View h_out) {
  const Shape shape = h.shape;
  const int64_t count = h.size(0);
  const Arena::Frame layer_frame(pass.scratch);
  const View ffn_input = pass.save_or_rebuild(Rebuild::norms, "ffn.input", shape);
  DecoderSaved saved{.attention_input = {},
                     .attention_inv_rms = pass.saved.push("attention.inv_rms", pass.stat(), {count}),
                     .attention = {},
                     .middle = pass.save("middle", shape),
                     .ffn_input = pass.unless_rebuilt(Rebuild::norms, ffn_input),
                     .ffn_inv_rms = pass.saved.push("ffn.inv_rms", pass.stat(), {count}),
                     .ffn_gate_up = {},
                     .moe = {}};
  {
    const Arena::Frame frame(pass.scratch);
    const View attention_input = pass.save_or_rebuild(Rebuild::norms, "attention.input", shape);
    saved.attention_input = pass.unless_rebuilt(Rebuild::norms, attention_input);
    pass.backend.run(RmsNorm{.x = h,
                             .gain = weights.attention_norm,
                             .eps = config.norm_eps,
                             .y = attention_input,
                             .inv_rms = saved.attention_inv_rms});
    const View attended = pass.temporary("attention.output", shape);
    saved.attention = attention_forward(pass, config.attention, weights.attention, context.tokens, context.cache,
                                        attention_input, attended);
    const RmsNorm norm{.x = attended,
                       .residual = h,
                       .sum = saved.middle,
                       .gain = weights.ffn_norm,
                       .eps = config.norm_eps,
                       .y = ffn_input,
                       .inv_rms = saved.ffn_inv_rms};
    if (weights.is_moe() && !config.moe.ranks && may_be_one_operation(weights.moe, context)) {
      saved.moe = moe_forward(pass, config.moe, weights.moe, context, norm, saved.middle, h_out);
      return saved;
    }
    pass.backend.run(norm);
  }
  if (weights.is_moe()) {
    saved.moe = moe_forward(pass, config.moe, weights.moe, context, ffn_input, saved.middle, h_out);
  } else {
    saved.ffn_gate_up = ffn_forward(pass, weights.ffn, ffn_input, h_out);
    pass.backend.run(Add{.x = saved.middle, .y = h_out});
  }
  return saved;
}

void decoder_backward(Pass& pass, const DecoderConfig& config, const DecoderWeights& weights,
                      const DecoderWeights& gradients, const LayerContext& context, const DecoderSaved& saved, View h,
                      View d, bool down) {
  const Arena::Frame frame(pass.scratch);
  const View d_normed = pass.temporary("d_normed", d.shape);
  {
    const Arena::Frame ffn_frame(pass.scratch);
    const View x = normed(pass, config, saved.ffn_input, saved.middle, weights.ffn_norm, saved.ffn_inv_rms);
    if (weights.is_moe()) {
      moe_backward(pass, config.moe, weights.moe, gradients.moe, context, saved.moe, x, d, d_normed);
    } else {
      ffn_backward(pass, weights.ffn, gradients.ffn, saved.ffn_gate_up, x, d, d_normed);
    }
  }
  // The gradient of the residual path is d itself. Each norm's backward adds the gradient of its branch.
  norm_backward(pass, weights.ffn_norm, gradients.ffn_norm, saved.ffn_inv_rms, d_normed, saved.middle, d);
  const View x = normed(pass, config, saved.attention_input, h, weights.attention_norm, saved.attention_inv_rms);
  const bool through_norm = down || gradients.attention_norm;
  attention_backward(pass, config.attention, weights.attention, gradients.attention, context.tokens, saved.attention, x,
                     d, through_norm ? d_normed : View{});
  if (!through_norm) return;
  norm_backward(pass, weights.attention_norm, gradients.attention_norm, saved.attention_inv_rms, d_normed, h, d);
}

}  // namespace moe
