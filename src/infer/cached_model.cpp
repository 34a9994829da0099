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
         int64_t max_tokens, int64_t most_logits)
      : most_positions(max_length),
        tokens(arena, stat_dtype(types.activations), max_tokens, config.head_dim, sequences, pages_of(max_length)) {
    const Shape shape{sequences * pages_of(max_length), kPageTokens, config.attention().kv_width()};
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      cache.layers.push_back({arena.push("cache.k", types.cache, shape), arena.push("cache.v", types.cache, shape)});
    }
    logits = arena.push("logits", stat_dtype(types.activations), {std::max(sequences, most_logits), config.vocab_size});
  }
};

/// Where a pass keeps the experts that its tokens choose: [MoE layers, T, S], in scratch memory.
View push_ids(const ModelConfig& config, ChosenIds ids, PassArenas& arenas, int64_t tokens) {
  if (ids == ChosenIds::forgotten || config.moe_layers() == 0) return {};
  return arenas.scratch.push("chosen ids", DType::i32, {config.moe_layers(), tokens, config.router().slots()});
}

void run_pass(const Model& model, Inputs& inputs, PassArenas& arenas, Backend& backend, DType dtype,
              const TokenViews& tokens, View ids, View logits) {
  const Arena::Frame frame(arenas.scratch);
  Pass pass = arenas.pass(backend, dtype);
  const View h = model.forward(pass, tokens, {.ids = ids}, &inputs.cache);
  const int64_t rows = logits.size(0);
  model.logits(pass, h.rows(h.size(0) - rows, rows), logits);
}

PassSizes sizes_of(const ModelConfig& config, const PassTypes& types, int64_t sequences, int64_t max_length,
                   int64_t max_tokens, ChosenIds ids, int64_t most_logits) {
  const DType dtype = types.activations;
  return measure_pass(config, dtype, [&](const Model& model, Device& device, Backend& backend, PassArenas& arenas) {
    Inputs inputs(arenas.inputs, config, types, sequences, max_length, max_tokens, most_logits);
    const std::vector<int32_t> zeros(static_cast<size_t>(max_tokens), 0);
    const TokenViews tokens = inputs.tokens.upload_cached(zeros, zeros, zeros, 1.0, device, backend);
    run_pass(model, inputs, arenas, backend, dtype, tokens, push_ids(config, ids, arenas, max_tokens), inputs.logits);
  });
}

}  // namespace

/// What lives as long as the sequences.
struct CachedModel::Cache {
  DeviceMemory memory;
  Arena arena;
  Inputs inputs;

  Cache(const ModelOnDevice& runtime, size_t bytes, int64_t sequences, int64_t max_length, int64_t max_tokens,
        int64_t most_logits)
      : memory(runtime.device),
        arena(memory.arena("inputs", bytes)),
        inputs(arena, runtime.model.config(), runtime.types(), sequences, max_length, max_tokens, most_logits) {
    const int64_t each = pages_of(max_length);
    std::vector<int32_t> pages(static_cast<size_t>(each));
    for (int64_t s = 0; s < sequences; ++s) {
      std::iota(pages.begin(), pages.end(), static_cast<int32_t>(s * each));
      inputs.tokens.upload_pages(s, pages, runtime.device);
    }
  }
};

/// What lives during a pass.
struct CachedModel::Work {
  PassSizes room;
  DeviceMemory memory;
  PassArenas arenas;

  Work(Device& device, const PassSizes& sizes)
      : room(sizes),
        memory(device),
        arenas{Arena("inputs", nullptr, 0), memory.arena("activations", sizes.saved),
               memory.arena("scratch", sizes.scratch)} {}
};

CachedModel::CachedModel(const ModelOnDevice& runtime, int64_t sequences, int64_t max_length, int64_t max_tokens,
                         ChosenIds ids, int64_t most_logits)
    : model_(&runtime.model),
      types_(runtime.types()),
      device_(runtime.device),
      backend_(runtime.backend),
      max_tokens_(max_tokens),
      most_logits_(most_logits),
      ids_(ids),
      lengths_(static_cast<size_t>(sequences), 0) {
  MOE_CHECK(max_tokens >= sequences && max_tokens >= most_logits && max_length > 0);
  const PassSizes sizes = sizes_of(model_->config(), types_, sequences, max_length, max_tokens, ids, most_logits);
  cache_ = std::make_unique<Cache>(runtime, sizes.inputs, sequences, max_length, max_tokens, most_logits);
  work_ = std::make_unique<Work>(device_, sizes);
}

CachedModel::~CachedModel() = default;

int64_t CachedModel::bytes(const ModelConfig& config, const PassTypes& types, int64_t sequences, int64_t max_length,
                           int64_t max_tokens) {
  return sizes_of(config, types, sequences, max_length, max_tokens, ChosenIds::forgotten, 1).total();
}

int64_t CachedModel::used_bytes() const {
  PassSizes used = work_->arenas.peaks();
  used.inputs = cache_->arena.peak_bytes();
  return used.total();
}

void CachedModel::set_model(const ModelOnDevice& runtime) {
  const auto sequences = static_cast<int64_t>(lengths_.size());
  const PassSizes sizes =
      sizes_of(runtime.model.config(), types_, sequences, max_length(), max_tokens_, ids_, most_logits_);
  MOE_CHECK(sizes.inputs == cache_->arena.peak_bytes());
  const PassSizes& room = work_->room;
  if (sizes.saved > room.saved || sizes.scratch > room.scratch) work_ = std::make_unique<Work>(device_, sizes);
  model_ = &runtime.model;
}

void CachedModel::truncate(int64_t sequence, int64_t length) {
  MOE_CHECK(0 <= length && length <= this->length(sequence));
  lengths_[static_cast<size_t>(sequence)] = length;
}

int64_t CachedModel::max_length() const { return cache_->inputs.most_positions; }

void CachedModel::check_room(int64_t sequence, size_t tokens) const {
  if (length(sequence) + static_cast<int64_t>(tokens) <= max_length()) return;
  fail("a sequence of {} tokens has no room for {} more in a cache of {}; allow a longer one", length(sequence), tokens,
       max_length());
}

std::vector<float> CachedModel::append(int64_t sequence, std::span<const int32_t> ids,
                                       const std::function<void(int64_t)>& passed) {
  MOE_CHECK(!ids.empty());
  check_room(sequence, ids.size());
  std::vector<float> logits;
  const int64_t before = length(sequence);
  const auto chunk = static_cast<size_t>(cache_->inputs.tokens.capacity());
  try {
    for (size_t begin = 0; begin < ids.size(); begin += chunk) {
      const auto part = ids.subspan(begin, std::min(chunk, ids.size() - begin));
      const bool last = begin + part.size() == ids.size();
      logits = run({part.begin(), part.end()}, std::vector<int32_t>(part.size(), static_cast<int32_t>(sequence)),
                   last ? 1 : 0);
      if (passed) passed(static_cast<int64_t>(part.size()));
    }
  } catch (...) {
    lengths_[static_cast<size_t>(sequence)] = before;  // later passes do not read what was written there
    throw;
  }
  return logits;
}

std::vector<float> CachedModel::append_with_logits(int64_t sequence, std::span<const int32_t> ids) {
  MOE_CHECK(!ids.empty() && static_cast<int64_t>(ids.size()) <= most_logits_);
  check_room(sequence, ids.size());
  return run({ids.begin(), ids.end()}, std::vector<int32_t>(ids.size(), static_cast<int32_t>(sequence)),
             static_cast<int64_t>(ids.size()));
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
  Inputs& inputs = cache_->inputs;
  PassArenas& arenas = work_->arenas;
  const ModelConfig& config = model_->config();
  const TokenViews tokens = inputs.tokens.upload_cached(ids, sequence, positions, config.rope_theta, device_, backend_);
  const Arena::Frame frame(arenas.scratch);
  const View chosen = push_ids(config, ids_, arenas, tokens.count());
  const View logits = inputs.logits.rows(0, wanted_rows);
  run_pass(*model_, inputs, arenas, backend_, types_.activations, tokens, chosen, logits);
  std::vector<float> host(static_cast<size_t>(logits.elements()));
  device_.download(host.data(), logits.data, logits.bytes());
  if (chosen) {
    chosen_ids_.resize(static_cast<size_t>(chosen.elements()));
    device_.download(chosen_ids_.data(), chosen.data, chosen.bytes());
  }
  lengths_ = std::move(lengths);
  return host;
}

}  // namespace moe
