#include "cli/bench_layer.h"

#include <algorithm>

#include "base/output.h"
#include "formats/json.h"
#include "measure/layer.h"

namespace moe {
namespace {

Json measure(const LayerFlags& flags, Compute& compute) {
  const ModelConfig& m = flags.model;
  const LayerTimes times = measure_layer({.model = m,
                                          .tokens = flags.tokens,
                                          .dtype = parse_dtype_option(flags.dtype),
                                          .skew = flags.skew,
                                          .repeats = flags.repeats,
                                          .product = flags.product},
                                         *compute.device, *compute.backend);
  const double mean =
      static_cast<double>(flags.tokens * m.num_experts_per_tok) / static_cast<double>(m.n_routed_experts);
  const int64_t activated = m.shared_width() + m.num_experts_per_tok * m.moe_intermediate_size;
  const double ffn_flops = 18.0 * static_cast<double>(flags.tokens * activated * m.hidden_size);
  const double router_flops = 6.0 * static_cast<double>(flags.tokens * m.n_routed_experts * m.hidden_size);
  const double most = *std::max_element(times.loads.begin(), times.loads.end());
  const bool rated = flags.product > 0;
  const auto share = [&](double flops, double seconds) {
    return rated ? Json(flops / seconds / times.product_rate) : Json();
  };
  return {{"hidden", m.hidden_size},
          {"width", m.moe_intermediate_size},
          {"shared", m.n_shared_experts},
          {"experts", m.n_routed_experts},
          {"top_k", m.num_experts_per_tok},
          {"tokens", flags.tokens},
          {"skew", flags.skew},
          {"load_max_over_mean", most / mean},
          {"dtype", flags.dtype},
          {"kernels", flags.kernels},
          {"threads", compute.pool.size()},
          {"layer_ms", 1e3 * times.layer},
          {"layer_gflops", 1e-9 * (ffn_flops + router_flops) / times.layer},
          {"layer_share_of_product", share(ffn_flops + router_flops, times.layer)},
          {"sorted_products_ms", 1e3 * times.products},
          {"routing_overhead", (times.layer - times.products) / times.layer},
          {"dense_ms", 1e3 * times.dense},
          {"dense_share_of_product", share(ffn_flops, times.dense)},
          {"product_gflops", rated ? Json(1e-9 * times.product_rate) : Json()}};
}

void print(const Json& j) {
  const auto number = [&](const char* key) { return j.at(key).is_null() ? 0.0 : j.at(key).get<double>(); };
  const auto share = [&](const char* key) {
    return j.at(key).is_null() ? std::string() : fmt::format(", {:.1f}% of a large product's rate", 100 * number(key));
  };
  print_output(
      "{} tokens, {} + {} experts of width {}, top {}, d = {}, {}: the busiest expert has {:.2f} times the mean\n",
      j.at("tokens").get<int64_t>(), j.at("shared").get<int64_t>(), j.at("experts").get<int64_t>(),
      j.at("width").get<int64_t>(), j.at("top_k").get<int64_t>(), j.at("hidden").get<int64_t>(),
      j.at("dtype").get<std::string>(), number("load_max_over_mean"));
  print_output("MoE layer, forward and backward   {:9.3f} ms, {:.1f} GFLOP/s{}\n", number("layer_ms"),
               number("layer_gflops"), share("layer_share_of_product"));
  print_output("its products on sorted rows       {:9.3f} ms: routing, gathering and SwiGLU add {:.1f}% of the layer\n",
               number("sorted_products_ms"), 100 * number("routing_overhead"));
  print_output("dense FFN, same activated width   {:9.3f} ms{}\n", number("dense_ms"), share("dense_share_of_product"));
  if (!j.at("product_gflops").is_null())
    print_output("large product                     {:9.1f} GFLOP/s\n", number("product_gflops"));
}

}  // namespace

void bench_layer(const LayerFlags& flags) {
  const ModelConfig& m = flags.model;
  if (m.n_routed_experts < 1) fail_usage("--experts {}: expected at least 1", m.n_routed_experts);
  if (m.num_experts_per_tok < 1 || m.num_experts_per_tok > m.n_routed_experts) {
    fail_usage("--top-k {}: expected 1 to {}, the number of routed experts", m.num_experts_per_tok, m.n_routed_experts);
  }
  Compute compute = make_compute(flags.device);
  force_cuda_path(flags.kernels);
  const Json json = measure(flags, compute);
  if (flags.json) {
    print_output("{}\n", json_text(json, 2));
  } else {
    print(json);
  }
}

}  // namespace moe
