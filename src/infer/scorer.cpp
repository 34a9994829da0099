#include "infer/scorer.h"

#include <algorithm>
#include <unordered_map>

#include "batch/token_buffers.h"
#include "model/pass_memory.h"
#include "ops/transfer.h"
#include "tensor/finite.h"

namespace moe {
namespace {

// What a pass needs besides the model. It is pushed in the same order on the null device and on the real one.
struct Inputs {
  TokenBuffers tokens;
  View group, row_loss, counts, dropped;
  View ids, gates;  // of all MoE layers and slots, for the given number of tokens; absent: not wanted

  Inputs(Arena& arena, const ModelConfig& config, DType dtype, int64_t max_tokens, ChosenIds wanted, int64_t groups)
      : tokens(arena, stat_dtype(dtype), max_tokens, config.head_dim),
        group(arena.push("group", DType::i32, {max_tokens})),
        row_loss(arena.push("row_loss", stat_dtype(dtype), {max_tokens})),
        counts(arena.push("counts", DType::i32, {config.moe_layers() * groups * config.n_routed_experts})),
        dropped(arena.push("dropped", DType::i32, {config.moe_layers()})) {
    const Shape choices{max_tokens * ids_per_token(config)};
    if (wanted != ChosenIds::forgotten) ids = arena.push("chosen_ids", DType::i32, choices);
    if (wanted == ChosenIds::with_gates) gates = arena.push("chosen_gates", stat_dtype(dtype), choices);
  }

  static int64_t ids_per_token(const ModelConfig& config) { return config.moe_layers() * config.router().slots(); }
  // The counts of the first `groups` groups.
  View counts_of(const ModelConfig& config, int64_t groups) const {
    const int64_t layers = config.moe_layers(), experts = config.n_routed_experts;
    return counts.rows(0, layers * groups * experts).reshaped({layers, groups, experts});
  }
  // Room for `count` tokens in `all`, which is `ids` or `gates`.
  static View choices_of(const View& all, const ModelConfig& config, int64_t count) {
    if (!all) return {};
    return all.rows(0, count * ids_per_token(config)).reshaped({config.moe_layers(), count, config.router().slots()});
  }
};

/// Gives the groups of one batch numbers of their own, in the order in which they occur. Few of many domains occur in a
/// batch, and only those are counted, cleared and downloaded.
struct LocalGroups {
  std::vector<int32_t> of_token;
  std::vector<int32_t> global;  // by local number

  explicit LocalGroups(const std::vector<int32_t>& group) : of_token(group) {
    std::unordered_map<int32_t, int32_t> numbers;
    for (int32_t& token : of_token) {
      if (token < 0) continue;
      const auto [found, is_new] = numbers.emplace(token, static_cast<int32_t>(global.size()));
      if (is_new) global.push_back(token);
      token = found->second;
    }
  }
  int64_t count() const { return static_cast<int64_t>(global.size()); }
};

std::vector<int32_t> download_integers(Device& device, const View& view) {
  std::vector<int32_t> values(static_cast<size_t>(view.elements()));
  device.download(values.data(), view.data, view.bytes());
  return values;
}

// Logits and losses need the same scratch, chunk by chunk, so measuring one measures both. A pass that keeps its ids
// needs less saved memory than this one.
void walk(const Model& model, Device& device, Backend& backend, PassArenas& arenas, DType dtype, int64_t tokens,
          int64_t row_length, ChosenIds wanted, int64_t groups) {
  Inputs inputs(arenas.inputs, model.config(), dtype, tokens, wanted, groups);
  const TokenViews views = inputs.tokens.upload(placeholder_batch(tokens, row_length), tokens, 1.0, device, backend);
  Pass pass = arenas.pass(backend, dtype);
  const View h = model.forward(
      pass, views,
      {.group = inputs.group, .counts = inputs.counts_of(model.config(), groups), .dropped = inputs.dropped});
  model.loss(pass, h, views.targets, inputs.row_loss);
}

int64_t most_groups(int64_t groups, int64_t max_tokens) { return std::min(std::max<int64_t>(groups, 1), max_tokens); }

PassSizes sizes_of(const ModelConfig& config, DType dtype, int64_t max_tokens, int64_t row_length, ChosenIds ids,
                   int64_t groups) {
  return measure_pass(config, dtype, [&](const Model& model, Device& device, Backend& backend, PassArenas& arenas) {
    walk(model, device, backend, arenas, dtype, max_tokens, row_length > 0 ? row_length : max_tokens, ids,
         most_groups(groups, max_tokens));
  });
}

}  // namespace

struct Scorer::Memory {
  DeviceMemory device;
  PassArenas arenas;
  Inputs inputs;
  View last_ids = {}, last_gates = {};  // of the last losses() call

  Memory(const ModelOnDevice& runtime, const PassSizes& sizes, int64_t max_tokens, ChosenIds wanted, int64_t groups)
      : device(runtime.device),
        arenas(device.pass_arenas(sizes)),
        inputs(arenas.inputs, runtime.model.config(), runtime.dtype, max_tokens, wanted, groups) {}
};

Scorer::Scorer(const ModelOnDevice& runtime, int64_t max_tokens, int64_t row_length, ChosenIds ids, int64_t groups)
    : runtime_(runtime), most_groups_(most_groups(groups, max_tokens)) {
  const PassSizes sizes = sizes_of(runtime.model.config(), runtime.dtype, max_tokens, row_length, ids, groups);
  memory_ = std::make_unique<Memory>(runtime, sizes, max_tokens, ids, most_groups_);
}

Scorer::~Scorer() = default;

int64_t Scorer::bytes(const ModelConfig& config, DType dtype, int64_t max_tokens, int64_t row_length, ChosenIds ids,
                      int64_t groups) {
  return sizes_of(config, dtype, max_tokens, row_length, ids, groups).total();
}

int64_t Scorer::used_bytes() const { return memory_->arenas.peaks().total(); }

std::vector<float> Scorer::losses(const Batch& batch) {
  ChoiceCounts counts;
  return losses(batch, {}, 0, counts);
}

std::vector<float> Scorer::losses(const Batch& batch, const std::vector<int32_t>& group, int64_t groups,
                                  ChoiceCounts& counts) {
  return losses(batch, group, groups, counts, {});
}

std::vector<float> Scorer::losses_of(const Model& model, Pass& pass, const TokenViews& tokens, View h) {
  const View row_loss = memory_->inputs.row_loss.rows(0, tokens.count());
  model.loss(pass, h, tokens.targets, row_loss);
  std::vector<float> losses(static_cast<size_t>(tokens.count()));
  runtime_.device.download(losses.data(), row_loss.as<float>(), losses.size() * sizeof(float));
  return losses;
}

std::vector<float> Scorer::losses_from(const Model& model, const Batch& batch, int64_t first,
                                       std::span<const char> stream) {
  const ModelConfig& config = model.config();
  const TokenViews tokens =
      memory_->inputs.tokens.upload(batch, batch.sequence_length, config.rope_theta, runtime_.device, runtime_.backend);
  const Arena::Frame frame(memory_->arenas.scratch);
  Pass pass = memory_->arenas.pass(runtime_.backend, runtime_.dtype);
  const View h = pass.temporary("hidden", {tokens.count(), config.hidden_size});
  MOE_CHECK(stream.size() == h.bytes());
  runtime_.device.upload(h.data, stream.data(), stream.size());
  return losses_of(model, pass, tokens, model.forward_from(pass, tokens, {}, first, h));
}

std::vector<float> Scorer::losses(const Batch& batch, const std::vector<int32_t>& group, int64_t groups,
                                  ChoiceCounts& counts, const KeepStream& keep) {
  Inputs& inputs = memory_->inputs;
  const ModelConfig& config = runtime_.model.config();
  const TokenViews tokens =
      inputs.tokens.upload(batch, batch.sequence_length, config.rope_theta, runtime_.device, runtime_.backend);
  const Arena::Frame frame(memory_->arenas.scratch);
  Pass pass = memory_->arenas.pass(runtime_.backend, runtime_.dtype);
  StepStats stats;
  const LocalGroups local(group);
  View local_counts;
  if (groups > 0) {
    MOE_CHECK(local.count() <= most_groups_);
    local_counts = inputs.counts_of(config, std::max<int64_t>(local.count(), 1));
    upload_vector(runtime_.device, inputs.group, local.of_token);
    for (const View& view : {local_counts, inputs.dropped}) runtime_.backend.run(Fill{.x = view, .value = 0});
    stats = {.group = inputs.group.rows(0, tokens.count()), .counts = local_counts, .dropped = inputs.dropped};
  }
  stats.ids = memory_->last_ids = Inputs::choices_of(inputs.ids, config, tokens.count());
  stats.gates = memory_->last_gates = Inputs::choices_of(inputs.gates, config, tokens.count());
  const View h = runtime_.model.forward(pass, tokens, stats, nullptr, {}, keep);
  std::vector<float> losses = losses_of(runtime_.model, pass, tokens, h);
  if (groups > 0) {
    const std::vector<int32_t> found = download_integers(runtime_.device, local_counts);
    const std::vector<int32_t> dropped = download_integers(runtime_.device, inputs.dropped);
    const int64_t experts = config.n_routed_experts;
    counts.chosen.resize(static_cast<size_t>(config.moe_layers() * groups * experts));
    for (int64_t layer = 0; layer < config.moe_layers(); ++layer) {
      for (int64_t g = 0; g < local.count(); ++g) {
        const int32_t* from = &found[static_cast<size_t>((layer * local.count() + g) * experts)];
        int64_t* to =
            &counts.chosen[static_cast<size_t>((layer * groups + local.global[static_cast<size_t>(g)]) * experts)];
        for (int64_t e = 0; e < experts; ++e) to[e] += from[e];
      }
    }
    counts.dropped.resize(dropped.size());
    for (size_t i = 0; i < dropped.size(); ++i) counts.dropped[i] += dropped[i];
  }
  return losses;
}

std::vector<int32_t> Scorer::chosen_ids() {
  MOE_CHECK(memory_->last_ids);
  return download_integers(runtime_.device, memory_->last_ids);
}

std::vector<float> Scorer::chosen_gates() {
  MOE_CHECK(memory_->last_gates);
  const std::vector<double> gates = download_doubles(runtime_.device, memory_->last_gates);
  return {gates.begin(), gates.end()};
}

void Scorer::logits(const Batch& batch, const std::function<void(int64_t, int64_t, const float*)>& use) {
  trace(batch, {}, use);
}

void Scorer::trace(const Batch& batch, const std::function<void(int64_t, const std::vector<float>&)>& watch,
                   const std::function<void(int64_t, int64_t, const float*)>& use) {
  const ModelConfig& config = runtime_.model.config();
  const auto count = static_cast<int64_t>(batch.tokens.size());
  const TokenViews tokens =
      memory_->inputs.tokens.upload(batch, batch.sequence_length, config.rope_theta, runtime_.device, runtime_.backend);
  const Arena::Frame frame(memory_->arenas.scratch);
  Pass pass = memory_->arenas.pass(runtime_.backend, runtime_.dtype);
  std::function<void(int64_t, View)> download;
  if (watch) {
    download = [&](int64_t index, View view) {
      std::vector<char> stored(view.bytes());
      std::vector<float> values(static_cast<size_t>(view.elements()));
      runtime_.device.download(stored.data(), view.data, stored.size());
      storage(view.dtype).to_floats(stored.data(), values.data(), view.elements());
      watch(index, values);
    };
  }
  const View h = runtime_.model.forward(pass, tokens, {}, nullptr, {}, download);
  const int64_t chunk = std::min(count, head_chunk_rows(config.vocab_size));
  std::vector<float> host(static_cast<size_t>(chunk * config.vocab_size));
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t rows = std::min(chunk, count - begin);
    const Arena::Frame chunk_frame(pass.scratch);
    const View logits = pass.scratch.push("logits", DType::f32, {rows, config.vocab_size});
    runtime_.model.logits(pass, h.rows(begin, rows), logits);
    runtime_.device.download(host.data(), logits.data, logits.bytes());
    use(begin, rows, host.data());
  }
}

void Scorer::fail_not_finite(const Batch& batch) {
  const int64_t layers = runtime_.model.config().num_hidden_layers, none = layers + 1;
  int64_t first = none;
  trace(
      batch,
      [&](int64_t layer, const std::vector<float>& values) {
        const auto count = static_cast<int64_t>(values.size());
        if (first == none && first_not_finite(DType::f32, values.data(), count) >= 0) first = layer;
      },
      [](int64_t, int64_t, const float*) {});
  first = runtime_.model.least_of_stages(first);
  const std::string where = first == none ? std::string("the logits")
                            : first == 0  ? std::string("the rows of the embedding")
                                          : fmt::format("the outputs of layer {} (of {} from 0)", first - 1, layers);
  throw NotFinite(where, where +
                             " are not finite: the model's numbers overflow, as after training that has diverged; "
                             "use another checkpoint or a wider type of weights");
}

}  // namespace moe
