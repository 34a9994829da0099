#include "cli/bench_generate.h"

#include "base/output.h"
#include "base/random.h"
#include "cli/bench_machine.h"
#include "formats/json.h"
#include "infer/arenas.h"
#include "infer/forward.h"
#include "infer/generate.h"
#include "model/cost.h"
#include "model/validate.h"
#include "nn/routers/hash_table.h"

namespace moe {
namespace {

/// Bytes of the tensor that is read to measure the reading rate; larger than any cache.
constexpr int64_t kReadBytes = int64_t{512} << 20;

/// A model with random weights: normal with variance 1 / (elements of a row), norms too. Hash tables are drawn as in
/// training.
class RandomModel {
 public:
  RandomModel(const ModelConfig& config, DType dtype, const Compute& compute) : memory_(*compute.device) {
    const auto table = parameter_table(config);
    Arena measure("weights", nullptr, PassSizes{}.saved);
    push_parameters(measure, table, dtype);
    Arena arena = memory_.arena("the weights", measure.peak_bytes());
    const std::vector<View> views = push_parameters(arena, table, dtype);
    for (size_t i = 0; i < views.size(); ++i) {
      if (table[i].is_table()) {
        upload_vector(*compute.device, views[i],
                      random_hash_table(config.vocab_size, config.n_routed_experts, 1, table[i].layer));
      } else {
        fill_randomly(*compute.backend, *compute.device, views[i], i);
      }
    }
    model_ = std::make_unique<Model>(config, BalanceConfig{}, bind_weights(config, views));
  }

  const Model& model() const { return *model_; }

 private:
  DeviceMemory memory_;
  std::unique_ptr<Model> model_;
};

std::vector<int32_t> random_ids(int64_t count, int64_t vocabulary) {
  const Random random(1, 0);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(i), static_cast<uint64_t>(vocabulary))));
  }
  return ids;
}

struct Seconds {
  std::vector<double> prompt, token;
};

Seconds time_generation(const GenerateBenchFlags& flags, const Runtime& runtime) {
  const std::vector<int32_t> ids = random_ids(flags.prompt + flags.tokens, flags.model.vocab_size);
  CachedModel cached(runtime, 1, flags.prompt + flags.tokens, flags.prompt);
  Seconds seconds;
  const int32_t only[] = {0};
  for (int i = -1; i < flags.repeats; ++i) {  // the first round warms up
    cached.reset(0);
    const double start = wall_seconds();
    cached.append(0, std::span(ids).first(static_cast<size_t>(flags.prompt)));
    const double middle = wall_seconds();
    for (int64_t t = 0; t < flags.tokens; ++t) {
      cached.append_each(only, std::span(ids).subspan(static_cast<size_t>(flags.prompt + t), 1));
    }
    const double end = wall_seconds();
    if (i < 0) continue;
    seconds.prompt.push_back(middle - start);
    seconds.token.push_back((end - middle) / static_cast<double>(flags.tokens));
  }
  return seconds;
}

Json measure(const GenerateBenchFlags& flags, Compute& compute) {
  const ModelConfig& m = flags.model;
  const DType dtype = parse_dtype_option(flags.dtype);
  const auto product = [&] {
    return flags.product == 0 ? 0.0
                              : measure_product(*compute.backend, *compute.device, dtype, flags.product, flags.repeats);
  };
  const auto read = [&] { return measure_read(*compute.backend, *compute.device, kReadBytes, flags.repeats); };
  double product_rate = product(), read_rate = read();
  Seconds seconds;
  {
    const RandomModel weights(m, dtype, compute);
    seconds = time_generation(flags, {weights.model(), dtype, *compute.device, *compute.backend});
  }
  product_rate = std::max(product_rate, product());
  read_rate = std::max(read_rate, read());

  const double prompt = static_cast<double>(flags.prompt) / median(seconds.prompt), token = 1 / median(seconds.token);
  const double flops = prompt_flops(m, flags.prompt) / static_cast<double>(flags.prompt);
  // The mean position of the timed tokens.
  const double bytes = token_bytes(m, dtype, flags.prompt + flags.tokens / 2);
  const double token_limit = read_rate / bytes;
  return {{"prompt", flags.prompt},
          {"tokens", flags.tokens},
          {"dtype", flags.dtype},
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
  print_output("{:.1f} M parameters in {}, {} threads\n", 1e-6 * number("parameters"), j.at("dtype").get<std::string>(),
               j.at("threads").get<int>());
  print_output("prompt of {} tokens   {:10.1f} tokens/s, {:.1f} GFLOP/s", j.at("prompt").get<int64_t>(),
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

}  // namespace

void bench_generate(GenerateBenchFlags flags) {
  complete_sizes(flags);
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
