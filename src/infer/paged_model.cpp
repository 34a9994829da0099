#include "infer/paged_model.h"

#include <algorithm>
#include <numeric>

#include "batch/token_buffers.h"
#include "infer/device_steps.h"
#include "infer/leader.h"
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
  ChoiceViews choices;   ///< of tokens on the device

  /// The cache has the layers `layers` of the model.
  Inputs(Arena& arena, const ModelConfig& config, const PassTypes& types, const PagedSizes& sizes,
         const LayerRange& layers)
      : tokens(arena, stat_dtype(types.activations), sizes.tokens, config.head_dim, sizes.sequences, sizes.pages_each) {
    const Shape shape{sizes.pages, kPageTokens, config.attention().kv_width()};
    cache.layers.resize(static_cast<size_t>(layers.end));
    for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
      auto& [k, v] = cache.layers[static_cast<size_t>(layer)];
      k = arena.push("cache.k", types.cache, shape);
      v = arena.push("cache.v", types.cache, shape);
    }
    logits = arena.push("logits", stat_dtype(types.activations), {rows_of_logits(sizes), config.vocab_size});
    rows = arena.push("rows", DType::i32, {sizes.tokens});
    if (sizes.scores) {
      targets = arena.push("targets", DType::i32, {sizes.tokens});
      losses = arena.push("losses", stat_dtype(types.activations), {sizes.tokens});
    }
    if (sizes.chooses) choices = ChoiceViews(arena, rows_of_logits(sizes), sizes.sequences, config, sizes.penalties);
  }
};

/// i32, of all MoE layers and choices, for the most tokens; absent: not told. It is in scratch memory, because a change
/// of the routing may change its size.
View push_experts(const ModelConfig& config, const PagedSizes& sizes, Arena& scratch) {
  if (!sizes.chosen_experts) return {};
  return scratch.push("experts", DType::i32, {sizes.tokens * choices_per_token(config)});
}

View experts_of(const View& experts, const ModelConfig& config, int64_t count) {
  return experts.rows(0, count * choices_per_token(config))
      .reshaped({config.moe_layers(), count, config.router().slots()});
}

/// What a pass computes with, besides the model.
struct Place {
  Inputs& inputs;
  PassArenas& arenas;
  View experts;
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
  if (work.chosen_experts) stats.ids = experts_of(place.experts, model.config(), count);
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

PassSizes measure(const HeldModel& held, const PassTypes& types, const PagedSizes& sizes) {
  const DType dtype = types.activations;
  const ModelConfig& config = held.config;
  return measure_pass(held, dtype, [&](const Model& model, Device& device, Backend& backend, PassArenas& arenas) {
    Inputs inputs(arenas.inputs, config, types, sizes, model.layers());
    const View experts = push_experts(config, sizes, arenas.scratch);
    Place place{inputs, arenas, experts, device, backend, dtype};
    run_pass(model, place, largest_pass(sizes));
    if (!sizes.chooses) return;
    const std::vector<int32_t> zeros(static_cast<size_t>(sizes.sequences), 0);
    const TokenViews tokens = inputs.tokens.upload_cached(zeros, zeros, zeros, config.rope_theta, device, backend);
    decode_step(model, arenas, backend, dtype, inputs.choices.of_step(tokens, inputs.logits, true), inputs.cache);
  });
}

}  // namespace

/// What lives as long as the cache.
struct PagedModel::Memory {
  DeviceMemory device;
  Arena arena;
  Inputs inputs;

  Memory(const ModelOnDevice& runtime, size_t bytes, const PagedSizes& sizes)
      : device(runtime.device),
        arena(device.arena("inputs", bytes)),
        inputs(arena, runtime.model.config(), runtime.types(), sizes, runtime.model.layers()) {}
};

/// What lives during a pass.
struct PagedModel::Work {
  PassSizes room;
  DeviceMemory device;
  PassArenas arenas;

  Work(const ModelOnDevice& runtime, const PassSizes& bytes)
      : room(bytes),
        device(runtime.device),
        arenas{Arena("inputs", nullptr, 0), device.arena("activations", bytes.saved),
               device.arena("scratch", bytes.scratch)} {}
};

PagedModel::PagedModel(const ModelOnDevice& runtime, const PagedSizes& sizes) : runtime_(runtime), sizes_(sizes) {
  MOE_CHECK(sizes.sequences > 0 && sizes.pages > 0 && sizes.pages_each > 0 && sizes.tokens > 0);
  MOE_CHECK(!sizes.penalties || sizes.chooses);
  const Leader::Together together(runtime.leader);
  if (runtime.leader != nullptr) runtime.leader->begin(sizes);
  const PassSizes bytes = measure(runtime.model.held(), runtime.types(), sizes);
  memory_ = std::make_unique<Memory>(runtime, bytes.inputs, sizes);
  work_ = std::make_unique<Work>(runtime, bytes);
  start_work();
}

PagedModel::~PagedModel() = default;

/// The lowest part of the scratch memory, and the recordings of steps, which name views.
void PagedModel::start_work() {
  Arena& scratch = work_->arenas.scratch;
  scratch.release(0);
  experts_ = push_experts(config(), sizes_, scratch);
  if (!sizes_.chooses) return;
  Inputs& inputs = memory_->inputs;
  steps_ = std::make_unique<DeviceSteps>(
      *runtime_, work_->arenas, StepViews{inputs.tokens, inputs.logits, inputs.choices, inputs.cache, experts_});
}

void PagedModel::set_model(const ModelOnDevice& runtime) {
  MOE_CHECK(unread_steps() == 0);
  const PassSizes bytes = measure(runtime.model.held(), runtime.types(), sizes_);
  MOE_CHECK(bytes.inputs == memory_->arena.peak_bytes());
  const PassSizes& room = work_->room;
  if (bytes.saved > room.saved || bytes.scratch > room.scratch) {
    auto larger = std::make_unique<Work>(runtime, bytes);
    steps_.reset();
    work_ = std::move(larger);
  }
  runtime_.emplace(runtime);
  start_work();
}

int64_t PagedModel::bytes(const HeldModel& held, const PassTypes& types, const PagedSizes& sizes) {
  return measure(held, types, sizes).total();
}

int64_t PagedModel::page_bytes(const HeldModel& held, DType cache) {
  return 2 * held.layer_count() * kPageTokens * held.config.attention().kv_width() *
         static_cast<int64_t>(size_of(cache));
}

CollectiveTraffic PagedModel::traffic(const HeldModel& held, const PassTypes& types, int64_t tokens) {
  const PagedSizes sizes{.pages = pages_for(tokens), .pages_each = pages_for(tokens), .tokens = tokens};
  CollectiveTraffic moved;
  const auto run = [&](const Model& model, Device& device, Backend& backend, PassArenas& arenas) {
    Inputs inputs(arenas.inputs, held.config, types, sizes, model.layers());
    Place place{inputs, arenas, {}, device, backend, types.activations};
    run_pass(model, place, largest_pass(sizes));
  };
  measure_pass(held, types.activations, run, &moved);
  return moved;
}

void PagedModel::set_pages(int64_t sequence, const std::vector<int32_t>& pages) {
  if (Leader* const leader = runtime_->leader) leader->set_pages(sequence, pages);
  memory_->inputs.tokens.upload_pages(sequence, pages, runtime_->device);
}

void PagedModel::copy_page(int32_t from, int32_t to, int64_t tokens) {
  if (Leader* const leader = runtime_->leader) leader->copy_page(from, to, tokens);
  std::vector<std::byte> host;
  const auto copy = [&](const View& pages) {
    const View source = pages.at(from).rows(0, tokens), target = pages.at(to).rows(0, tokens);
    host.resize(source.bytes());
    runtime_->device.download(host.data(), source.data, host.size());
    runtime_->device.upload(target.data, host.data(), host.size());
  };
  for (const auto& layer : memory_->inputs.cache.layers) {
    if (!layer.k) continue;  // of another rank
    copy(layer.k);
    copy(layer.v);
  }
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
  const Leader::Together together(runtime_->leader);
  if (Leader* const leader = runtime_->leader) leader->run(pass);
  Inputs& inputs = memory_->inputs;
  Place place{inputs, work_->arenas, experts_, runtime_->device, runtime_->backend, runtime_->dtype};
  run_pass(runtime_->model, place, pass);

  PagedResult result;
  if (!pass.draws.empty()) {
    result.chosen = inputs.choices.chosen_ids(static_cast<int64_t>(pass.wanted.size()), runtime_->device);
  } else if (!pass.wanted.empty()) {
    const View logits = inputs.logits.rows(0, static_cast<int64_t>(pass.wanted.size()));
    result.logits.resize(static_cast<size_t>(logits.elements()));
    runtime_->device.download(result.logits.data(), logits.data, logits.bytes());
  }
  if (!pass.scored.empty()) {
    result.losses = download_doubles(runtime_->device, inputs.losses.rows(0, static_cast<int64_t>(pass.scored.size())));
  }
  if (pass.chosen_experts) {
    const View ids = experts_of(experts_, config(), tokens);
    result.experts.resize(static_cast<size_t>(ids.elements()));
    runtime_->device.download(result.experts.data(), ids.data, ids.bytes());
  }
  return result;
}

void PagedModel::set_allowed(const std::vector<int32_t>& allowed) {
  if (Leader* const leader = runtime_->leader) leader->set_allowed(allowed);
  memory_->inputs.choices.set_allowed(allowed, runtime_->device);
}

void PagedModel::set_history(int64_t sequence, const std::vector<int32_t>& ids) {
  if (Leader* const leader = runtime_->leader) leader->set_history(sequence, ids);
  memory_->inputs.choices.set_history(sequence, ids, runtime_->device);
}

void PagedModel::begin_steps(const std::vector<StepRow>& rows) {
  if (Leader* const leader = runtime_->leader) leader->begin_steps(rows);
  steps_->begin(rows);
}

void PagedModel::queue_step() {
  const Leader::Together together(runtime_->leader);
  if (Leader* const leader = runtime_->leader) leader->queue_step();
  steps_->queue();
}

StepChoices PagedModel::read_step() {
  const Leader::Together together(runtime_->leader);
  if (Leader* const leader = runtime_->leader) leader->read_step();
  return steps_->read();
}

int64_t PagedModel::unread_steps() const { return steps_ == nullptr ? 0 : steps_->unread(); }

}  // namespace moe
