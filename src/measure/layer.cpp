#include "measure/layer.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/median.h"
#include "base/random.h"
#include "measure/machine.h"
#include "model/pass_memory.h"
#include "nn/moe.h"
#include "ops/transfer.h"

namespace moe {
namespace {

struct Sizes {
  size_t fixed = PassSizes{}.inputs;
  size_t saved = PassSizes{}.saved;
  size_t scratch = PassSizes{}.scratch;
};

FfnWeights push_ffn(Arena& arena, DType dtype, int64_t width, int64_t hidden) {
  if (width == 0) return {};
  return {.gate_up = {arena.push("gate_up", dtype, {2 * width, hidden})},
          .down = {arena.push("down", dtype, {hidden, width})}};
}

MoeWeights push_moe(Arena& arena, DType dtype, const ModelConfig& m) {
  const int64_t experts = m.n_routed_experts, width = m.moe_intermediate_size, hidden = m.hidden_size;
  return {.router = {.project = {arena.push("router", dtype, {experts, hidden})}},
          .gate_up = {arena.push("experts.gate_up", dtype, {experts, 2 * width, hidden})},
          .down = {arena.push("experts.down", dtype, {experts, hidden, width})},
          .shared = push_ffn(arena, dtype, m.shared_width(), hidden),
          .shared_gate = {}};
}

/// A MoE layer, its products alone, and a dense FFN with its activated width, on the same tokens.
class Layers {
 public:
  Layers(const ModelConfig& m, int64_t tokens, DType dtype, Device& device, Backend& backend, const Sizes& sizes)
      : config_{.hidden = m.hidden_size, .width = m.moe_intermediate_size, .router = m.router(), .balance = {}},
        dtype_(dtype),
        device_(device),
        backend_(backend),
        memory_(device),
        fixed_(memory_.arena("weights, gradients and tokens", sizes.fixed)),
        saved_(memory_.arena("saved activations", sizes.saved)),
        scratch_(memory_.arena("scratch", sizes.scratch)) {
    const DType stat = stat_dtype(dtype);
    const int64_t top_k = config_.router.top_k;
    weights_ = push_moe(fixed_, dtype, m);
    gradients_ = push_moe(fixed_, stat, m);
    const int64_t activated = m.shared_width() + top_k * config_.width;
    dense_ = push_ffn(fixed_, dtype, activated, m.hidden_size);
    d_dense_ = push_ffn(fixed_, stat, activated, m.hidden_size);
    const Shape shape{tokens, m.hidden_size};
    x_ = fixed_.push("x", dtype, shape);
    y_ = fixed_.push("y", dtype, shape);
    dy_ = fixed_.push("dy", dtype, shape);
    dx_ = fixed_.push("dx", dtype, shape);
    const auto integers = [&](const char* name, Shape size) { return fixed_.push(name, DType::i32, size); };
    valid_ = integers("valid", {tokens});
    choice_ = {.ids = integers("choice.ids", {tokens, top_k}),
               .gates = fixed_.push("choice.gates", stat, {tokens, top_k})};
    plan_ = {.ids = choice_.ids,
             .offsets = integers("offsets", {config_.router.experts + 1}),
             .row_slot = integers("row_slot", {tokens * top_k}),
             .row_token = integers("row_token", {tokens * top_k}),
             .slot_row = integers("slot_row", {tokens, top_k})};
  }

  /// Random weights and tokens. The router prefers expert e by -skew ln(e + 1): the first element of x is 1 everywhere,
  /// and this is its effect on the logit. A skew of 0 is almost balanced, 1 is Zipf's law.
  void fill(double skew) {
    uint64_t stream = 100;
    const MoeWeights& w = weights_;
    for (const View& view : {w.router.project.weight, w.gate_up.weight, w.down.weight, w.shared.gate_up.weight,
                             w.shared.down.weight, dense_.gate_up.weight, dense_.down.weight, x_, dy_}) {
      if (view) fill_randomly(backend_, device_, view, stream++);
    }
    backend_.run(Fill{.x = valid_, .value = 0});
    const int64_t hidden = config_.hidden, experts = config_.router.experts;
    const Random random(2, 0);
    std::vector<float> router(static_cast<size_t>(experts * hidden));
    const double scale = 1 / std::sqrt(static_cast<double>(hidden));
    random.normals(0, std::ssize(router), scale, router.data());
    std::vector<float> tokens(static_cast<size_t>(x_.elements()));
    Random(2, 1).normals(0, x_.elements(), 1, tokens.data());
    for (int64_t e = 0; e < experts; ++e) {
      router[static_cast<size_t>(e * hidden)] = static_cast<float>(-skew * std::log(static_cast<double>(e + 1)));
    }
    for (int64_t t = 0; t < x_.size(0); ++t) tokens[static_cast<size_t>(t * hidden)] = 1;
    set(weights_.router.project.weight, router);
    set(x_, tokens);
    layer();
    backend_.run(plan_);
    device_.synchronize();
  }

  void layer() {
    const Arena::Frame frame(saved_);
    Pass pass = this->pass();
    const TokenViews tokens{
        .ids = valid_, .positions = {}, .rope = {}, .segment_start = {}, .valid = valid_, .max_segment = 1};
    const LayerContext context{.tokens = tokens, .choice = choice_};
    const MoeSaved saved = moe_forward(pass, config_, weights_, context, x_, x_, y_);
    moe_backward(pass, config_, weights_, gradients_, context, saved, x_, dy_, dx_);
  }

  /// The layer's products on rows that are sorted by expert, and those of its shared experts.
  void products() {
    Pass pass = this->pass();
    const Arena::Frame frame(scratch_);
    const int64_t rows = plan_.row_token.size(0);
    const View sorted = pass.temporary("sorted", {rows, config_.hidden});
    const View gate_up = pass.temporary("gate_up", {rows, 2 * config_.width});
    const View activated = pass.temporary("activated", {rows, config_.width});
    const View out = pass.temporary("out", {rows, config_.hidden});
    const View offsets = plan_.offsets;
    backend_.run(expert_product(weights_.gate_up, sorted, {}, offsets, gate_up));
    backend_.run(expert_product(weights_.down, activated, {}, offsets, out));
    backend_.run(expert_input_gradient(weights_.down, out, {}, offsets, activated));
    backend_.run(expert_weight_gradient(pass, gradients_.down, out, {}, activated, {}, offsets));
    backend_.run(expert_weight_gradient(pass, gradients_.gate_up, gate_up, {}, sorted, {}, offsets));
    backend_.run(expert_input_gradient(weights_.gate_up, gate_up, {}, offsets, sorted));
    if (weights_.shared) dense_products(pass, weights_.shared, gradients_.shared);
  }

  void dense() {
    const Arena::Frame frame(saved_);
    Pass pass = this->pass();
    const View gate_up = ffn_forward(pass, dense_, x_, y_);
    ffn_backward(pass, dense_, d_dense_, gate_up, x_, dy_, dx_);
  }

  /// The number of tokens that chose each expert.
  std::vector<int32_t> loads() {
    std::vector<int32_t> offsets(static_cast<size_t>(config_.router.experts + 1));
    device_.download(offsets.data(), plan_.offsets.data, offsets.size() * sizeof(int32_t));
    for (size_t e = 0; e + 1 < offsets.size(); ++e) offsets[e] = offsets[e + 1] - offsets[e];
    offsets.pop_back();
    return offsets;
  }

  Sizes peaks() const { return {fixed_.peak_bytes(), saved_.peak_bytes(), scratch_.peak_bytes()}; }

 private:
  Pass pass() { return {.backend = backend_, .saved = saved_, .scratch = scratch_, .dtype = dtype_}; }

  void set(const View& matrix, const std::vector<float>& values) {
    DeviceMemory memory(device_);
    const View source = memory.arena("values", values.size() * sizeof(float) + Arena::kAlignment)
                            .push("values", DType::f32, matrix.shape);
    upload_vector(device_, source, values);
    backend_.run(Cast{.x = source, .y = matrix});
    device_.synchronize();
  }

  void dense_products(Pass& pass, const FfnWeights& weights, const FfnWeights& gradients) {
    const View gate_up = pass.temporary("shared.gate_up", {x_.size(0), 2 * weights.width()});
    const View activated = pass.temporary("shared.activated", {x_.size(0), weights.width()});
    linear_forward(pass, weights.gate_up, x_, gate_up);
    linear_forward(pass, weights.down, activated, y_);
    linear_input_gradient(pass, weights.down, dy_, activated);
    linear_weight_gradient(pass, gradients.down, dy_, activated);
    linear_weight_gradient(pass, gradients.gate_up, gate_up, x_);
    linear_input_gradient(pass, weights.gate_up, gate_up, dx_);
  }

  MoeConfig config_;
  DType dtype_;
  Device& device_;
  Backend& backend_;
  DeviceMemory memory_;
  Arena fixed_, saved_, scratch_;
  MoeWeights weights_, gradients_;
  FfnWeights dense_, d_dense_;
  View x_, y_, dy_, dx_, valid_;
  RouteChoice choice_;
  RoutePlan plan_;
};

Sizes plan(const LayerWork& work) {
  const auto device = make_null_device();
  CountingBackend counter;
  Layers layers(work.model, work.tokens, work.dtype, *device, counter, {});
  layers.layer();
  layers.products();
  layers.dense();
  return layers.peaks();
}

}  // namespace

LayerTimes measure_layer(const LayerWork& work, Device& device, Backend& backend) {
  Layers layers(work.model, work.tokens, work.dtype, device, backend, plan(work));
  layers.fill(work.skew);
  const auto seconds_of = [&](auto&& part) {
    const double start = steady_seconds();
    part();
    device.synchronize();
    return steady_seconds() - start;
  };
  std::vector<double> layer, products, dense, rates;
  // The first round warms up. The four alternate, so that all see the same state of the machine.
  for (int i = -1; i < work.repeats; ++i) {
    const double one = seconds_of([&] { layers.layer(); });
    const double two = seconds_of([&] { layers.products(); });
    const double three = seconds_of([&] { layers.dense(); });
    if (i < 0) continue;
    layer.push_back(one), products.push_back(two), dense.push_back(three);
    if (work.product > 0) rates.push_back(measure_product(backend, device, work.dtype, work.product, 1));
  }
  return {.layer = median(layer),
          .products = median(products),
          .dense = median(dense),
          .product_rate = rates.empty() ? 0 : median(rates),
          .loads = layers.loads()};
}

}  // namespace moe
