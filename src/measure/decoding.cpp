#include "measure/decoding.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/clock.h"
#include "base/median.h"
#include "base/random.h"
#include "batch/token_buffers.h"
#include "infer/decode_graph.h"
#include "measure/machine.h"
#include "measure/model_types.h"
#include "measure/random_model.h"
#include "model/cost.h"
#include "ops/transfer.h"

namespace moe {
namespace {

constexpr int64_t kReadBytes = int64_t{512} << 20;  // larger than any cache
constexpr int64_t kPageTokens = 64;
constexpr int64_t kWarmUp = 3;  // steps; the second one records

/// One point of the table.
struct Point {
  int64_t batch, context, steps;  // steps: in all

  int64_t pages() const { return (context + steps + kPageTokens - 1) / kPageTokens; }
};

struct Inputs {
  TokenBuffers tokens;
  KvCache cache;
  DecodeViews views;

  Inputs(Arena& arena, const ModelConfig& config, DType dtype, const Point& point, const SamplingOptions& sampling,
         Device& device, Backend& backend)
      : tokens(arena, stat_dtype(dtype), point.batch, config.head_dim, point.batch, point.pages()) {
    const Shape pages{point.batch * point.pages(), kPageTokens, config.attention().kv_width()};
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      cache.layers.push_back({arena.push("cache.k", dtype, pages), arena.push("cache.v", dtype, pages)});
    }
    std::vector<int32_t> ids, sequence;
    const Random random(2, 0);
    for (int64_t s = 0; s < point.batch; ++s) {
      std::vector<int32_t> own(static_cast<size_t>(point.pages()));
      std::iota(own.begin(), own.end(), static_cast<int32_t>(s * point.pages()));
      tokens.upload_pages(s, own, device);
      sequence.push_back(static_cast<int32_t>(s));
      ids.push_back(
          static_cast<int32_t>(random.below(static_cast<uint64_t>(s), static_cast<uint64_t>(config.vocab_size))));
    }
    const std::vector<int32_t> positions(static_cast<size_t>(point.batch), static_cast<int32_t>(point.context));
    views.tokens = tokens.upload_cached(ids, sequence, positions, config.rope_theta, device, backend);
    views.logits = arena.push("logits", stat_dtype(dtype), {point.batch, config.vocab_size});
    views.chosen = arena.push("chosen", DType::i32, {point.batch});
    if (sampling.temperature > 0) {
      views.draws = arena.push("draws", DType::i32, {point.batch, kDrawWords});
      std::vector<int32_t> words;
      for (int64_t s = 0; s < point.batch; ++s) {
        const DrawWords row = words_of(token_draw(sampling, static_cast<uint64_t>(s)));
        words.insert(words.end(), row.begin(), row.end());
      }
      upload_vector(device, views.draws, words);
    }
    if (config.n_routed_experts > 0) {
      views.experts = arena.push("experts", DType::i32, {config.moe_layers(), point.batch, config.router().slots()});
    }
  }
};

PassSizes sizes_of(const ModelConfig& config, DType dtype, const Point& point, const SamplingOptions& sampling) {
  return measure_pass(config, dtype, [&](const Model& model, Device& device, Backend& backend, PassArenas& arenas) {
    const Inputs inputs(arenas.inputs, config, dtype, point, sampling, device, backend);
    decode_step(model, arenas, backend, dtype, inputs.views, inputs.cache);
  });
}

Point point_of(const DecodingWork& work, int64_t batch, int64_t context) {
  return {batch, context, kWarmUp + work.steps * work.repeats};
}

double distinct_experts(const View& experts, Device& device) {
  std::vector<int32_t> ids(static_cast<size_t>(experts.elements()));
  device.download(ids.data(), experts.data, experts.bytes());
  const size_t layers = static_cast<size_t>(experts.size(0)), each = ids.size() / layers;
  size_t distinct = 0;
  for (size_t layer = 0; layer < layers; ++layer) {
    const auto* const first = ids.data() + layer * each;
    distinct += std::set<int32_t>(first, first + each).size();
  }
  return static_cast<double>(distinct) / static_cast<double>(layers);
}

DecodingTime measure_point(const DecodingWork& work, const Model& model, int64_t batch, int64_t context, Device& device,
                           Backend& backend) {
  const Point point = point_of(work, batch, context);
  DeviceMemory memory(device);
  PassArenas arenas = memory.pass_arenas(sizes_of(work.model, work.dtype, point, work.sampling));
  const Inputs inputs(arenas.inputs, work.model, work.dtype, point, work.sampling, device, backend);
  for (size_t layer = 0; layer < inputs.cache.layers.size(); ++layer) {
    fill_randomly(backend, device, inputs.cache.layers[layer].k, 2 * layer);
    fill_randomly(backend, device, inputs.cache.layers[layer].v, 2 * layer + 1);
  }
  DecodeGraph graph({model, work.dtype, device, backend}, arenas, inputs.views, inputs.cache);
  for (int64_t i = 0; i < kWarmUp; ++i) graph.step();
  device.synchronize();
  std::vector<double> seconds;
  for (int i = 0; i < work.repeats; ++i) {
    const double start = steady_seconds();
    for (int64_t step = 0; step < work.steps; ++step) graph.step();
    device.synchronize();
    seconds.push_back((steady_seconds() - start) / static_cast<double>(work.steps));
  }
  const double distinct = inputs.views.experts ? distinct_experts(inputs.views.experts, device) : 0;
  const double positions = static_cast<double>(context + kWarmUp) + 0.5 * static_cast<double>(point.steps - kWarmUp);
  return {.batch = batch,
          .context = context,
          .seconds = median(seconds),
          .distinct_experts = distinct,
          .bytes = decoding_bytes(work.model, work.weights, work.dtype, batch, positions, distinct),
          .kernels = graph.kernels()};
}

}  // namespace

double decoding_bytes(const ModelConfig& config, const std::vector<DType>& weights, DType cache, int64_t batch,
                      double positions, double distinct) {
  double bytes = static_cast<double>(batch) * positions * position_bytes(config, cache);
  auto type = weights.begin();
  for (const Parameter& parameter : parameter_table(config)) {
    const auto all = static_cast<double>(bytes_of(*type++, parameter.shape.elements()));
    if (parameter.is_table()) continue;
    if (parameter.kind == ParameterKind::routed_experts) {
      bytes += all * distinct / static_cast<double>(config.n_routed_experts);
    } else if (parameter.kind == ParameterKind::embedding && !config.tie_word_embeddings) {
      bytes += all * static_cast<double>(batch) / static_cast<double>(config.vocab_size);
    } else {
      bytes += all;
    }
  }
  return bytes;
}

int64_t decoding_memory(const DecodingWork& work) {
  int64_t most = 0;
  for (const int64_t context : work.contexts) {
    for (const int64_t batch : work.batches) {
      most = std::max(most, sizes_of(work.model, work.dtype, point_of(work, batch, context), work.sampling).total());
    }
  }
  return bytes_of_weights(work.model, work.weights) + most;
}

DecodingTimes measure_decoding(const DecodingWork& work, Device& device, Backend& backend) {
  DecodingTimes times{.read_rate = measure_read(backend, device, kReadBytes, work.repeats), .rows = {}};
  {
    const RandomModel weights(work.model, work.weights, device, backend);
    for (const int64_t context : work.contexts) {
      for (const int64_t batch : work.batches) {
        times.rows.push_back(measure_point(work, weights.model(), batch, context, device, backend));
      }
    }
  }
  times.read_rate = std::max(times.read_rate, measure_read(backend, device, kReadBytes, work.repeats));
  return times;
}

}  // namespace moe
