#include "infer/cached_model.h"

#include <algorithm>
#include <numeric>

#include "batch/token_buffers.h"
#include "model/pass_memory.h"

namespace moe {
namespace {

/// Each sequence has pages of its own, one after the other.
constexpr int64_t kPageTokens = 64;

int64_t pages_of(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

struct Inputs {
  int64_t most_positions;
  TokenBuffers tokens;
  KvCache cache;
  View logits;

  Inputs(Arena& arena, const ModelConfig& config, const PassTypes& types, int64_t sequences, int64_t max_length,
         int64_t max_tokens)
      : most_positions(max_length),
        tokens(arena, stat_dtype(types.activations), max_tokens, config.head_dim, sequences, pages_of(max_length)) {
    const Shape shape{sequences * pages_of(max_length), kPageTokens, config.attention().kv_width()};
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      cache.layers.push_back({arena.push("cache.k", types.cache, shape), arena.push("cache.v", types.cache, shape)});
    }
    logits = arena.push("logits", stat_dtype(types.activations), {sequences, config.vocab_size});
  }
};

void run_pass(const Model& model, Inputs& inputs, PassArenas& arenas, Backend& backend, DType dtype,
              const TokenViews& tokens, View logits) {
  const Arena::Frame frame(arenas.scratch);
  Pass pass = arenas.pass(backend, dtype);
  const View h = model.forward(pass, tokens, {}, &inputs.cache);
  const int64_t rows = logits.size(0);
  model.logits(pass, h.rows(h.size(0) - rows, rows), logits);
}

PassSizes sizes_of(const ModelConfig& config, const PassTypes& types, int64_t sequences, int64_t max_length,
                   int64_t max_tokens) {
  const DType dtype = types.activations;
  return measure_pass(config, dtype, [&](const Model& model, Device& device, Backend& backend, PassArenas& arenas) {
    Inputs inputs(arenas.inputs, config, types, sequences, max_length, max_tokens);
    const std::vector<int32_t> zeros(static_cast<size_t>(max_tokens), 0);
    const TokenViews tokens = inputs.tokens.upload_cached(zeros, zeros, zeros, 1.0, device, backend);
    run_pass(model, inputs, arenas, backend, dtype, tokens, inputs.logits);
  });
}

}  // namespace

struct CachedModel::Memory {
  DeviceMemory device;
  PassArenas arenas;
  Inputs inputs;

  Memory(const ModelOnDevice& runtime, const PassSizes& bytes, int64_t sequences, int64_t max_length,
         int64_t max_tokens)
      : device(runtime.device),
        arenas(device.pass_arenas(bytes)),
        inputs(arenas.inputs, runtime.model.config(), runtime.types(), sequences, max_length, max_tokens) {
    const int64_t each = pages_of(max_length);
    std::vector<int32_t> pages(static_cast<size_t>(each));
    for (int64_t s = 0; s < sequences; ++s) {
      std::iota(pages.begin(), pages.end(), static_cast<int32_t>(s * each));
      inputs.tokens.upload_pages(s, pages, runtime.device);
    }
  }
};

CachedModel::CachedModel(const ModelOnDevice& runtime, int64_t sequences, int64_t max_length, int64_t max_tokens)
    : runtime_(runtime), lengths_(static_cast<size_t>(sequences), 0) {
  MOE_CHECK(max_tokens >= sequences && max_length > 0);
  const PassSizes sizes = sizes_of(runtime.model.config(), runtime.types(), sequences, max_length, max_tokens);
  memory_ = std::make_unique<Memory>(runtime, sizes, sequences, max_length, max_tokens);
}

CachedModel::~CachedModel() = default;

int64_t CachedModel::bytes(const ModelConfig& config, const PassTypes& types, int64_t sequences, int64_t max_length,
                           int64_t max_tokens) {
  return sizes_of(config, types, sequences, max_length, max_tokens).total();
}

int64_t CachedModel::max_length() const { return memory_->inputs.most_positions; }

void CachedModel::check_room(int64_t sequence, size_t tokens) const {
  if (length(sequence) + static_cast<int64_t>(tokens) <= max_length()) return;
  fail("a sequence of {} tokens has no room for {} more in a cache of {}; allow a longer one", length(sequence), tokens,
       max_length());
}

std::vector<float> CachedModel::append(int64_t sequence, std::span<const int32_t> ids) {
  MOE_CHECK(!ids.empty());
  check_room(sequence, ids.size());
  std::vector<float> logits;
  const int64_t before = length(sequence);
  const auto chunk = static_cast<size_t>(memory_->inputs.tokens.capacity());
  try {
    for (size_t begin = 0; begin < ids.size(); begin += chunk) {
      const auto part = ids.subspan(begin, std::min(chunk, ids.size() - begin));
      const bool last = begin + part.size() == ids.size();
      logits = run({part.begin(), part.end()}, std::vector<int32_t>(part.size(), static_cast<int32_t>(sequence)),
                   last ? 1 : 0);
    }
  } catch (...) {
    lengths_[static_cast<size_t>(sequence)] = before;  // later passes do not read what was written there
    throw;
  }
  return logits;
}

std::vector<float> CachedModel::append_each(std::span<const int32_t> sequences, std::span<const int32_t> ids) {
  MOE_CHECK(sequences.size() == ids.size() && !ids.empty());
  for (const int32_t sequence : sequences) check_room(sequence, 1);
  return run({ids.begin(), ids.end()}, {sequences.begin(), sequences.end()}, static_cast<int64_t>(ids.size()));
}

std::vector<float> CachedModel::run(const std::vector<int32_t>& ids, const std::vector<int32_t>& sequence,
                                    int64_t wanted_rows) {
  std::vector<int32_t> positions;
  std::vector<int64_t> lengths = lengths_;  // the lengths of the caches after the pass
  for (const int32_t s : sequence) positions.push_back(static_cast<int32_t>(lengths[static_cast<size_t>(s)]++));
  Inputs& inputs = memory_->inputs;
  const ModelConfig& config = runtime_.model.config();
  const TokenViews tokens =
      inputs.tokens.upload_cached(ids, sequence, positions, config.rope_theta, runtime_.device, runtime_.backend);
  const View logits = inputs.logits.rows(0, wanted_rows);
  run_pass(runtime_.model, inputs, memory_->arenas, runtime_.backend, runtime_.dtype, tokens, logits);
  std::vector<float> host(static_cast<size_t>(logits.elements()));
  runtime_.device.download(host.data(), logits.data, logits.bytes());
  lengths_ = std::move(lengths);
  return host;
}

}  // namespace moe
