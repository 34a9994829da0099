#include "infer/paged_model.h"

#include <algorithm>
#include <numeric>

#include "batch/token_buffers.h"
#include "infer/device_steps.h"
#include "model/pass_memory.h"
#include "ops/transfer.h"

namespace moe {
namespace {

int64_t choices_per_token(const ModelConfig& config) {
  return config.n_routed_experts == 0 ? 0 : config.moe_layers() * config.router().slots();
}

int64_t rows_of_logits(const PagedSizes& sizes) { return sizes.logits > 0 ? sizes.logits : sizes.sequences; }

struct Inputs {
  TokenBuffers tokens;
  KvCache cache;
  View logits;
  View rows;             ///< i32: of the residual stream, that are gathered
  View targets, losses;  ///< of scored rows; absent: none are
  View experts;          ///< i32: of all MoE layers and choices, for the most tokens; absent: not told
  ChoiceViews choices;   ///< of tokens on the device

  Inputs(Arena& arena, const ModelConfig& config, const PassTypes& types, const PagedSizes& sizes)
      : tokens(arena, stat_dtype(types.activations), sizes.tokens, config.head_dim, sizes.sequences, sizes.pages_each) {
    const Shape shape{sizes.pages, kPageTokens, config.attention().kv_width()};
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      cache.layers.push_back({arena.push("cache.k", types.cache, shape), arena.push("cache.v", types.cache, shape)});
    }
    logits = arena.push("logits", stat_dtype(types.activations), {rows_of_logits(sizes), config.vocab_size});
    rows = arena.push("rows", DType::i32, {sizes.tokens});
    if (sizes.scores) {
      targets = arena.push("targets", DType::i32, {sizes.tokens});
      losses = arena.push("losses", stat_dtype(types.activations), {sizes.tokens});
    }
    if (sizes.chosen_experts) {
      experts = arena.push("experts", DType::i32, {sizes.tokens * choices_per_token(config)});
    }
    if (sizes.chooses) choices = ChoiceViews(arena, rows_of_logits(sizes), sizes.sequences, config, sizes.penalties);
  }

  View experts_of(const ModelConfig& config, int64_t count) const {
    return experts.rows(0, count * choices_per_token(config))
        .reshaped({config.moe_layers(), count, config.router().slots()});
  }
};

/// What a pass computes with, besides the model.
struct Place {
  Inputs& inputs;
  PassArenas& arenas;
  Device& device;
  Backend& backend;
  DType dtype;
};

/// Rows of the residual stream, in ascending order: a part of it if they follow each other, else a copy.
View pick_rows(Place& place, Pass& pass, View h, const std::vector<int32_t>& rows) {
  const auto count = static_cast<int64_t>(rows.size());
  if (rows.back() - rows.front() + 1 == count) return h.rows(rows.front(), count);
  const View picked = pass.temporary("picked rows", {count, h.size(1)});
  upload_vector(place.device, place.inputs.rows, rows);
  pass.backend.run(Embed{.tokens = place.inputs.rows.rows(0, count), .table = h, .y = picked});
  return picked;
}

/// Leaves logits, losses and experts in the inputs.
void run_pass(const Model& model, Place& place, const PagedPass& work) {
  Inputs& inputs = place.inputs;
  const auto count = static_cast<int64_t>(work.ids.size());
  const TokenViews tokens = inputs.tokens.upload_cached(work.ids, work.sequence, work.positions,
                                                        model.config().rope_theta, place.device, place.backend);
  StepStats stats;
  if (work.chosen_experts) stats.ids = inputs.experts_of(model.config(), count);
  const Arena::Frame frame(place.arenas.scratch);
  Pass pass = place.arenas.pass(place.backend, place.dtype);
  const View h = model.forward(pass, tokens, stats, &inputs.cache);
  const View wanted_logits = inputs.logits.rows(0, static_cast<int64_t>(work.wanted.size()));
  if (!work.wanted.empty()) {
    const Arena::Frame rows(place.arenas.scratch);
    model.logits(pass, pick_rows(place, pass, h, work.wanted), wanted_logits);
  }
  if (!work.scored.empty()) {
    const Arena::Frame rows(place.arenas.scratch);
    const auto scored = static_cast<int64_t>(work.scored.size());
    const View picked = pick_rows(place, pass, h, work.scored);
    upload_vector(place.device, inputs.targets, work.targets);
    model.loss(pass, picked, inputs.targets.rows(0, scored), inputs.losses.rows(0, scored));
  }
  // At the end: what it counts on the device must not be counted again if the pass is repeated after a failure.
  if (!work.draws.empty()) inputs.choices.choose(wanted_logits, work, place.device, place.backend);
}

/// The pass that needs the most memory of all that these sizes allow.
PagedPass largest_pass(const PagedSizes& sizes) {
  const auto tokens = static_cast<size_t>(sizes.tokens);
  PagedPass pass{.ids = std::vector<int32_t>(tokens, 0), .sequence = {}, .positions = {}};
  pass.sequence = pass.positions = pass.ids;
  for (int64_t i = std::min(rows_of_logits(sizes), sizes.tokens); i-- > 0;) {
    pass.wanted.push_back(static_cast<int32_t>(sizes.tokens - 1 - i));
  }
  if (pass.wanted.size() > 1) pass.wanted.front() = 0;  // with a gap, if there is room for one
  if (sizes.scores) {
    pass.scored.resize(tokens);
    std::iota(pass.scored.begin(), pass.scored.end(), 0);
    pass.targets.assign(tokens, 0);
    // A gap that no pass of these sizes has, so that the rows are copied.
    if (tokens > 1) pass.scored.back() = static_cast<int32_t>(tokens);
  }
  // A pass that does not tell its experts needs more: it keeps the layer's choices in its activations.
  return pass;
}

PassSizes measure(const ModelConfig& config, const PassTypes& types, const PagedSizes& sizes) {
  const DType dtype = types.activations;
  return measure_pass(config, dtype, [&](const Model& model, Device& device, Backend& backend, PassArenas& arenas) {
    Inputs inputs(arenas.inputs, config, types, sizes);
    Place place{inputs, arenas, device, backend, dtype};
    run_pass(model, place, largest_pass(sizes));
    if (!sizes.chooses) return;
    const std::vector<int32_t> zeros(static_cast<size_t>(sizes.sequences), 0);
    const TokenViews tokens = inputs.tokens.upload_cached(zeros, zeros, zeros, config.rope_theta, device, backend);
    decode_step(model, arenas, backend, dtype, inputs.choices.of_step(tokens, inputs.logits, true), inputs.cache);
  });
}

}  // namespace

struct PagedModel::Memory {
  DeviceMemory device;
  PassArenas arenas;
  Inputs inputs;
  std::unique_ptr<DeviceSteps> steps = {};

  Memory(const ModelOnDevice& runtime, const PassSizes& bytes, const PagedSizes& sizes)
      : device(runtime.device),
        arenas(device.pass_arenas(bytes)),
        inputs(arenas.inputs, runtime.model.config(), runtime.types(), sizes) {}
};

PagedModel::PagedModel(const ModelOnDevice& runtime, const PagedSizes& sizes) : runtime_(runtime), sizes_(sizes) {
  MOE_CHECK(sizes.sequences > 0 && sizes.pages > 0 && sizes.pages_each > 0 && sizes.tokens > 0);
  MOE_CHECK(!sizes.penalties || sizes.chooses);
  memory_ = std::make_unique<Memory>(runtime, measure(runtime.model.config(), runtime.types(), sizes), sizes);
  if (!sizes.chooses) return;
  Inputs& inputs = memory_->inputs;
  memory_->steps = std::make_unique<DeviceSteps>(runtime, memory_->arenas, inputs.tokens, inputs.logits, inputs.choices,
                                                 inputs.cache);
}

PagedModel::~PagedModel() = default;

int64_t PagedModel::bytes(const ModelConfig& config, const PassTypes& types, const PagedSizes& sizes) {
  return measure(config, types, sizes).total();
}

int64_t PagedModel::page_bytes(const ModelConfig& config, DType cache) {
  return 2 * config.num_hidden_layers * kPageTokens * config.attention().kv_width() *
         static_cast<int64_t>(size_of(cache));
}

void PagedModel::set_pages(int64_t sequence, const std::vector<int32_t>& pages) {
  memory_->inputs.tokens.upload_pages(sequence, pages, runtime_.device);
}

PagedResult PagedModel::run(const PagedPass& pass) {
  const auto tokens = static_cast<int64_t>(pass.ids.size());
  MOE_CHECK(tokens > 0 && tokens <= sizes_.tokens && pass.sequence.size() == pass.ids.size() &&
            pass.positions.size() == pass.ids.size());
  MOE_CHECK(static_cast<int64_t>(pass.wanted.size()) <= rows_of_logits(sizes_));
  MOE_CHECK(pass.draws.empty() || (sizes_.chooses && pass.draws.size() == pass.wanted.size()));
  MOE_CHECK(unread_steps() == 0);
  MOE_CHECK(pass.scored.size() == pass.targets.size() && (sizes_.scores || pass.scored.empty()));
  MOE_CHECK(sizes_.chosen_experts || !pass.chosen_experts);
  Inputs& inputs = memory_->inputs;
  Place place{inputs, memory_->arenas, runtime_.device, runtime_.backend, runtime_.dtype};
  run_pass(runtime_.model, place, pass);

  PagedResult result;
  if (!pass.draws.empty()) {
    result.chosen = inputs.choices.chosen_ids(static_cast<int64_t>(pass.wanted.size()), runtime_.device);
  } else if (!pass.wanted.empty()) {
    const View logits = inputs.logits.rows(0, static_cast<int64_t>(pass.wanted.size()));
    result.logits.resize(static_cast<size_t>(logits.elements()));
    runtime_.device.download(result.logits.data(), logits.data, logits.bytes());
  }
  if (!pass.scored.empty()) {
    result.losses = download_doubles(runtime_.device, inputs.losses.rows(0, static_cast<int64_t>(pass.scored.size())));
  }
  if (pass.chosen_experts) {
    const View ids = inputs.experts_of(config(), tokens);
    result.experts.resize(static_cast<size_t>(ids.elements()));
    runtime_.device.download(result.experts.data(), ids.data, ids.bytes());
  }
  return result;
}

void PagedModel::set_allowed(const std::vector<int32_t>& allowed) {
  memory_->inputs.choices.set_allowed(allowed, runtime_.device);
}

void PagedModel::set_history(int64_t sequence, const std::vector<int32_t>& ids) {
  memory_->inputs.choices.set_history(sequence, ids, runtime_.device);
}

void PagedModel::begin_steps(const std::vector<StepRow>& rows) { memory_->steps->begin(rows); }

void PagedModel::queue_step() { memory_->steps->queue(); }

std::vector<int32_t> PagedModel::read_step() { return memory_->steps->read(); }

int64_t PagedModel::unread_steps() const { return memory_->steps == nullptr ? 0 : memory_->steps->unread(); }

}  // namespace moe
