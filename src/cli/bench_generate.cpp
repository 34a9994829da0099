#include "cli/bench_generate.h"

#include <algorithm>

#include "backend/cuda/cuda_backend.h"
#include "base/output.h"
#include "base/units.h"
#include "cli/cache_option.h"
#include "cli/memory_option.h"
#include "cli/weights_option.h"
#include "formats/json.h"
#include "infer/generate.h"
#include "measure/decoding.h"
#include "measure/generation.h"
#include "measure/model_types.h"
#include "model/cost.h"
#include "model/validate.h"
#include "train/amounts.h"

namespace moe {
namespace {

/// With a limit: refuses what needs more than it leaves.
void check_memory(const GenerateBenchFlags& flags, const Compute& compute, int64_t needed) {
  const int64_t free = free_bytes(*compute.device, flags.memory_limit);
  if (flags.memory_limit == 0 || needed <= free) return;
  fail(
      "the weights, the cache and a pass need {}, and --memory-limit leaves {}; use a smaller type of "
      "weights (--quant), a shorter context or a higher limit",
      bytes_text(needed), bytes_text(free));
}

/// The types of all parameters: of --dtype, of one type of blocks, or of a GGUF file's mixture.
std::vector<DType> weight_types_of(const GenerateBenchFlags& flags) {
  const DType dtype = parse_dtype_option(flags.dtype);
  const Quantization* const mixture = find_quantization(flags.quant);
  if (mixture != nullptr && mixture->mixed) return types_of_file(flags.model, *mixture, dtype);
  return types_of_weights(flags.model, parse_blocks_option(flags.quant).value_or(dtype));
}

Json measure(const GenerateBenchFlags& flags, Compute& compute) {
  const ModelConfig& m = flags.model;
  const DType dtype = parse_dtype_option(flags.dtype);
  const std::vector<DType> weights = weight_types_of(flags);
  const DType cache = parse_cache_option(flags.cache_type, compute, dtype, !flags.quant.empty());
  const GenerationWork work{.model = m,
                            .dtype = dtype,
                            .weights = weights,
                            .prompt = flags.prompt,
                            .tokens = flags.tokens,
                            .repeats = flags.repeats,
                            .product = flags.product,
                            .cache = cache};
  check_memory(flags, compute, generation_memory(work));
  const GenerationTimes times = measure_generation(work, *compute.device, *compute.backend);
  const double product_rate = times.product_rate, read_rate = times.read_rate;
  const double prompt = static_cast<double>(flags.prompt) / times.prompt, token = 1 / times.token;
  const double flops = prompt_flops(m, flags.prompt) / static_cast<double>(flags.prompt);
  // The mean position of the timed tokens.
  const double bytes = decoding_bytes(m, weights, cache, 1, static_cast<double>(flags.prompt + flags.tokens / 2),
                                      static_cast<double>(m.num_experts_per_tok));
  const double token_limit = read_rate / bytes;
  return {{"prompt", flags.prompt},
          {"tokens", flags.tokens},
          {"dtype", flags.quant.empty() ? flags.dtype : flags.quant},
          {"cache", name(cache)},
          {"threads", compute.pool.size()},
          {"parameters", ParameterCounts(m).stored()},
          {"prompt_tokens_per_s", prompt},
          {"prompt_gflops", 1e-9 * flops * prompt},
          {"product_gflops", product_rate > 0 ? Json(1e-9 * product_rate) : Json()},
          {"prompt_share_of_product", product_rate > 0 ? Json(flops * prompt / product_rate) : Json()},
          {"tokens_per_s", token},
          {"mib_per_token", bytes / (1 << 20)},
          {"gb_per_s", 1e-9 * bytes * token},
          {"read_gb_per_s", 1e-9 * read_rate},
          {"share_of_reading", token / token_limit}};
}

void print(const Json& j) {
  const auto number = [&](const char* key) { return j.at(key).get<double>(); };
  print_output("{:.1f} M parameters in {}, {}\n", 1e-6 * number("parameters"), j.at("dtype").get<std::string>(),
               counted(j.at("threads").get<int>(), "thread"));
  print_output("prompt of {}   {:10.1f} tokens/s, {:.1f} GFLOP/s", counted(j.at("prompt").get<int64_t>(), "token"),
               number("prompt_tokens_per_s"), number("prompt_gflops"));
  if (!j.at("product_gflops").is_null()) {
    print_output(": {:.1f}% of a large product's {:.1f}", 100 * number("prompt_share_of_product"),
                 number("product_gflops"));
  }
  print_output(
      "\ntoken by token         {:10.1f} tokens/s, {:.2f} MiB of weights and cache each: {:.1f} GB/s, {:.1f}% of "
      "the {:.1f} at which memory is read\n",
      number("tokens_per_s"), number("mib_per_token"), number("gb_per_s"), 100 * number("share_of_reading"),
      number("read_gb_per_s"));
}

Json measure_steps(const GenerateBenchFlags& flags, const Json& trained_context, Compute& compute) {
  const DecodingWork work{.model = flags.model,
                          .dtype = parse_dtype_option(flags.dtype),
                          .weights = weight_types_of(flags),
                          .batches = flags.batches,
                          .contexts = flags.contexts,
                          .steps = flags.tokens,
                          .repeats = flags.repeats,
                          .sampling = flags.sampling};
  check_memory(flags, compute, decoding_memory(work));
  const DecodingTimes times = measure_decoding(work, *compute.device, *compute.backend);
  Json rows = Json::array();
  for (const DecodingTime& t : times.rows) {
    const double floor = t.bytes / times.read_rate;
    const auto batch = static_cast<double>(t.batch), kernels = static_cast<double>(t.kernels);
    rows.push_back({{"batch", t.batch},
                    {"context", t.context},
                    {"ms", 1e3 * t.seconds},
                    {"tokens_per_s", batch / t.seconds},
                    {"gb", 1e-9 * t.bytes},
                    {"floor_ms", 1e3 * floor},
                    {"share_of_floor", floor / t.seconds},
                    {"distinct_experts", t.distinct_experts},
                    {"kernels", t.kernels > 0 ? Json(t.kernels) : Json()},
                    {"kernels_per_token", t.kernels > 0 ? Json(kernels / batch) : Json()}});
  }
  return {{"device", device_name(compute)},
          {"dtype", flags.quant.empty() ? flags.dtype : flags.quant},
          {"activations", flags.dtype},
          {"parameters", ParameterCounts(flags.model).stored()},
          {"weights_gib", gib(bytes_of_weights(flags.model, work.weights))},
          {"slow_paths", cuda_slow_paths()},
          {"max_position_embeddings", trained_context},
          {"read_gb_per_s", 1e-9 * times.read_rate},
          {"rows", rows}};
}

void print_steps(const Json& j) {
  print_output("{:.1f} M parameters in {} ({:.2f} GiB), {}; its memory is read at {:.1f} GB/s\n",
               1e-6 * j.at("parameters").get<double>(), j.at("dtype").get<std::string>(),
               j.at("weights_gib").get<double>(), j.at("device").get<std::string>(),
               j.at("read_gb_per_s").get<double>());
  print_output("{:>6} {:>8} {:>10} {:>11} {:>10} {:>8} {:>8} {:>8}\n", "batch", "context", "ms", "tokens/s", "floor ms",
               "of floor", "experts", "kernels");
  int64_t longest = 0;
  for (const Json& row : j.at("rows")) {
    const auto number = [&](const char* key) { return row.at(key).get<double>(); };
    const Json& kernels = row.at("kernels");
    longest = std::max(longest, row.at("context").get<int64_t>());
    print_output("{:>6} {:>8} {:>10.3f} {:>11.1f} {:>10.3f} {:>7.1f}% {:>8.1f} {:>8}\n", row.at("batch").get<int64_t>(),
                 row.at("context").get<int64_t>(), number("ms"), number("tokens_per_s"), number("floor_ms"),
                 100 * number("share_of_floor"), number("distinct_experts"),
                 kernels.is_null() ? "-" : fmt::format("{}", kernels.get<int64_t>()));
  }
  const Json& trained = j.at("max_position_embeddings");
  if (!trained.is_null() && longest >= trained.get<int64_t>()) {
    print_output("The model takes {} (max_position_embeddings); longer contexts are measured all the same.\n",
                 counted(trained.get<int64_t>(), "token"));
  }
}

void bench_steps(GenerateBenchFlags flags) {
  if (flags.batches.empty()) flags.batches = {1};
  if (flags.contexts.empty()) flags.contexts = {512};
  const Json trained = flags.config.empty() ? Json() : Json(flags.model.max_position_embeddings);
  flags.model.max_position_embeddings = 1 + *std::max_element(flags.contexts.begin(), flags.contexts.end());
  validate(flags.model);
  check_generates(flags.model);
  Compute compute = make_compute(flags.device);
  const Json json = measure_steps(flags, trained, compute);
  if (flags.json) return print_output("{}\n", json_text(json, 2));
  print_steps(json);
}

}  // namespace

void bench_generate(GenerateBenchFlags flags) {
  complete_sizes(flags);
  force_cuda_path(flags.kernels);
  if (!flags.batches.empty() || !flags.contexts.empty()) return bench_steps(std::move(flags));
  flags.model.max_position_embeddings = flags.prompt + flags.tokens;
  validate(flags.model);
  check_generates(flags.model);
  Compute compute = make_compute(flags.device);
  const Json json = measure(flags, compute);
  if (flags.json) {
    print_output("{}\n", json_text(json, 2));
  } else {
    print(json);
  }
}

}  // namespace moe
