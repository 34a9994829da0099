#include "measure/generation.h"

#include <algorithm>

#include "base/clock.h"
#include "base/median.h"
#include "base/random.h"
#include "infer/cached_model.h"
#include "measure/machine.h"
#include "measure/model_types.h"
#include "measure/random_model.h"

namespace moe {
namespace {

/// Bytes of the tensor that is read to measure the reading rate; larger than any cache.
constexpr int64_t kReadBytes = int64_t{512} << 20;

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

Seconds time_generation(const GenerationWork& work, const ModelOnDevice& runtime) {
  const std::vector<int32_t> ids = random_ids(work.prompt + work.tokens, work.model.vocab_size);
  CachedModel cached(runtime, 1, work.prompt + work.tokens, work.prompt);
  Seconds seconds;
  const int32_t only[] = {0};
  for (int i = -1; i < work.repeats; ++i) {  // the first round warms up
    cached.reset(0);
    const double start = steady_seconds();
    cached.append(0, std::span(ids).first(static_cast<size_t>(work.prompt)));
    const double middle = steady_seconds();
    for (int64_t t = 0; t < work.tokens; ++t) {
      cached.append_each(only, std::span(ids).subspan(static_cast<size_t>(work.prompt + t), 1));
    }
    const double end = steady_seconds();
    if (i < 0) continue;
    seconds.prompt.push_back(middle - start);
    seconds.token.push_back((end - middle) / static_cast<double>(work.tokens));
  }
  return seconds;
}

}  // namespace

int64_t generation_memory(const GenerationWork& work) {
  return bytes_of_weights(work.model, work.weights) + CachedModel::bytes(work.model,
                                                                         {work.dtype, work.cache.value_or(work.dtype)},
                                                                         1, work.prompt + work.tokens, work.prompt);
}

GenerationTimes measure_generation(const GenerationWork& work, Device& device, Backend& backend) {
  const auto product = [&] {
    return work.product == 0 ? 0.0 : measure_product(backend, device, work.dtype, work.product, work.repeats);
  };
  const auto read = [&] { return measure_read(backend, device, kReadBytes, work.repeats); };
  GenerationTimes times{.product_rate = product(), .read_rate = read()};
  {
    const RandomModel weights(work.model, work.weights, device, backend);
    const Seconds seconds = time_generation(work, {weights.model(), work.dtype, device, backend, work.cache});
    times.prompt = median(seconds.prompt);
    times.token = median(seconds.token);
  }
  times.product_rate = std::max(times.product_rate, product());
  times.read_rate = std::max(times.read_rate, read());
  return times;
}

}  // namespace moe
