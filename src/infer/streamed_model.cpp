#include "infer/streamed_model.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "model/pass_memory.h"

namespace moe {
namespace {

constexpr int64_t kSlice = int64_t{1} << 16;  // elements that a thread reads at a time

/// Matrices of the model are streamed; the rest is small.
bool is_streamed(const Parameter& parameter) {
  return parameter.type == ParameterType::weight && parameter.is_matrix();
}

int64_t at_once(int64_t part_bytes, int64_t bytes_of_one, int64_t all) {
  return std::clamp<int64_t>(part_bytes / bytes_of_one, 1, all);
}

constexpr int64_t kFloat = sizeof(float);

/// Passes operations on. Where one reads a matrix of the model, it runs in parts, each with the rows or experts that
/// have just been read.
class StreamingBackend final : public EachOp<StreamingBackend> {
 public:
  StreamingBackend(const WeightSource& source, Device& device, Backend& inner, ThreadPool& pool, StreamOptions options)
      : source_(source), device_(device), inner_(inner), pool_(pool), options_(std::move(options)), memory_(device) {}

  /// `views` are addresses without memory, for all parameters that are streamed.
  void bind(const std::vector<View>& views) {
    for (size_t i = 0; i < views.size(); ++i) {
      if (is_streamed(source_.table()[i])) parameters_[views[i].data] = i;
    }
    parts_.emplace(memory_.arena("a part of the weights", room()));
  }

  template <class Op>
  void on(const Op& op) {
    for (const auto& field : Op::fields()) MOE_CHECK(!find(op.*field.view));
    inner_.execute(op);  // run() has checked it
  }

  void on(const Embed& op) {
    const std::optional<size_t> parameter = find(op.table);
    if (!parameter) return inner_.execute(op);  // a router's own table
    MOE_CHECK(op.y.dtype == DType::f32);
    tell(*parameter);
    const int64_t width = op.table.size(1);
    pool_.parallel_for(op.tokens.elements(), [&](int64_t i, int) {
      source_.read(*parameter, op.tokens.as<const int32_t>()[i] * width, width, op.y.at(i).as<float>());
    });
  }

  void on(const Gemm& op) {
    const std::optional<size_t> parameter = find(op.b);
    if (!parameter) return inner_.execute(op);
    MOE_CHECK(op.transpose_b && !op.transpose_a);
    const int64_t rows = op.b.size(0), width = op.b.size(1), step = at_once(options_.part_bytes, width * kFloat, rows);
    for (int64_t begin = 0; begin < rows; begin += step) {
      const Arena::Frame frame(*parts_);
      const int64_t count = std::min(step, rows - begin);
      Gemm part = op;
      part.b = read(*parameter, begin * width, {count, width});
      part.c = op.c.columns(begin, count);
      inner_.run(part);
    }
  }

  bool fuses() const override { return true; }
  using EachOp<StreamingBackend>::execute;
  void execute(const ExpertRows<SwiGlu>& op) override {
    const std::optional<size_t> gate_up = find(op.first.b), down = find(op.last.b);
    MOE_CHECK(gate_up && down && op.first.transpose_b && op.last.transpose_b);
    const int64_t experts = op.first.b.size(0), step = experts_at_once(op.first.b, op.last.b);
    std::vector<int32_t> offsets(static_cast<size_t>(experts) + 1);
    device_.download(offsets.data(), op.first.offsets.data, op.first.offsets.bytes());
    for (int64_t begin = 0; begin < experts; begin += step) {
      run_experts(op, *gate_up, *down, offsets, begin, std::min(step, experts - begin));
    }
  }

 private:
  std::optional<size_t> find(const View& view) const {
    const auto found = parameters_.find(view.data);
    return found == parameters_.end() ? std::nullopt : std::optional(found->second);
  }

  int64_t experts_at_once(const View& gate_up, const View& down) const {
    const int64_t experts = gate_up.size(0);
    return at_once(options_.part_bytes, (gate_up.elements() + down.elements()) / experts * kFloat, experts);
  }

  /// The bytes of the largest part, with the beginnings of three buffers.
  size_t room() const {
    int64_t largest = 0;
    const ModelConfig& config = source_.config();
    const int64_t expert = 3 * config.moe_intermediate_size * config.hidden_size * kFloat;
    if (config.n_routed_experts > 0) {
      largest = at_once(options_.part_bytes, expert, config.n_routed_experts) * expert +
                (config.n_routed_experts + 1) * kFloat;
    }
    for (const Parameter& parameter : source_.table()) {
      if (!is_streamed(parameter) || parameter.shape.rank() != 2) continue;
      const int64_t row = parameter.shape[1] * kFloat;
      largest = std::max(largest, at_once(options_.part_bytes, row, parameter.shape[0]) * row);
    }
    return static_cast<size_t>(largest) + 3 * Arena::kAlignment;
  }

  void tell(size_t parameter) {
    const int64_t layer = source_.table()[parameter].layer;
    if (layer == layer_ || !options_.progress) return;
    layer_ = layer;
    options_.progress(layer);
  }

  /// Elements from `begin` on of a parameter, valid until the caller's frame ends.
  View read(size_t parameter, int64_t begin, Shape shape) {
    tell(parameter);
    const View view = parts_->push("part", DType::f32, shape);
    float* const values = view.as<float>();
    const int64_t all = view.elements();
    pool_.parallel_for((all + kSlice - 1) / kSlice, [&](int64_t i, int) {
      const int64_t first = i * kSlice;
      source_.read(parameter, begin + first, std::min(kSlice, all - first), values + first);
    });
    return view;
  }

  /// Experts [begin, begin + count), whose rows are side by side.
  void run_experts(const ExpertRows<SwiGlu>& op, size_t gate_up, size_t down, const std::vector<int32_t>& offsets,
                   int64_t begin, int64_t count) {
    const int64_t first_row = offsets[static_cast<size_t>(begin)];
    const int64_t rows = offsets[static_cast<size_t>(begin + count)] - first_row;
    if (rows == 0) return;
    const Arena::Frame frame(*parts_);
    std::vector<int32_t> own(offsets.begin() + begin, offsets.begin() + begin + count + 1);
    for (int32_t& offset : own) offset -= static_cast<int32_t>(first_row);
    const View from = parts_->push("offsets", DType::i32, {count + 1});
    device_.upload(from.data, own.data(), from.bytes());
    const auto part_of = [&](const View& all, size_t parameter) {
      const Shape shape{count, all.size(1), all.size(2)};
      return read(parameter, begin * all.size(1) * all.size(2), shape);
    };
    const auto rows_of = [&](const View& all) { return all ? all.rows(first_row, rows) : View{}; };
    ExpertRows<SwiGlu> part = op;
    part.first.b = part_of(op.first.b, gate_up);
    part.last.b = part_of(op.last.b, down);
    part.first.offsets = part.last.offsets = from;
    if (op.first.a_rows) {
      part.first.a_rows = rows_of(op.first.a_rows);
    } else {
      part.first.a = rows_of(op.first.a);
    }
    part.first.c = part.activation.gate_up = rows_of(op.first.c);
    part.activation.scale_index = rows_of(op.activation.scale_index);
    part.activation.row_count = from.rows(count, 1);
    part.activation.y = part.last.a = rows_of(op.last.a);
    part.last.c = rows_of(op.last.c);
    inner_.run(part);
  }

  const WeightSource& source_;
  Device& device_;
  Backend& inner_;
  ThreadPool& pool_;
  StreamOptions options_;
  DeviceMemory memory_;
  std::optional<Arena> parts_;
  std::map<const void*, size_t> parameters_;  // by the address that stands for each
  int64_t layer_ = -2;                        // of the last matrix; -1: of none
};

}  // namespace

struct StreamedModel::State {
  State(const WeightSource& source, Device& on, Backend& inner, ThreadPool& pool, StreamOptions options)
      : device(on), backend(source, on, inner, pool, std::move(options)), places(*nowhere), memory(on) {
    MOE_CHECK(on.info().is_host);
    const std::vector<Parameter>& table = source.table();
    Arena measure("weights", nullptr, PassSizes{}.saved);
    for (const Parameter& parameter : table) {
      if (!is_streamed(parameter)) measure.push(parameter.name, parameter.storage(DType::f32), parameter.shape);
    }
    Arena small = memory.arena("norms and routers", measure.peak_bytes());
    Arena streamed = places.arena("weights in files", PassSizes{}.saved);
    std::vector<View> views;
    for (size_t i = 0; i < table.size(); ++i) {
      const Parameter& parameter = table[i];
      Arena& arena = is_streamed(parameter) ? streamed : small;
      const View view = views.emplace_back(arena.push(parameter.name, parameter.storage(DType::f32), parameter.shape));
      if (is_streamed(parameter)) continue;
      if (parameter.is_table()) {
        source.read(i, 0, view.elements(), view.as<int32_t>());
      } else {
        source.read(i, 0, view.elements(), view.as<float>());
      }
    }
    backend.bind(views);
    model = std::make_unique<Model>(source.config(), BalanceConfig{}, bind_weights(source.config(), views));
  }

  Device& device;
  StreamingBackend backend;
  std::unique_ptr<Device> nowhere = make_null_device();
  DeviceMemory places;  // addresses alone
  DeviceMemory memory;
  std::unique_ptr<Model> model;
};

StreamedModel::StreamedModel(const WeightSource& source, Device& device, Backend& backend, ThreadPool& pool,
                             StreamOptions options)
    : state_(std::make_unique<State>(source, device, backend, pool, std::move(options))) {}

StreamedModel::~StreamedModel() = default;

ModelOnDevice StreamedModel::runtime() const {
  return {.model = *state_->model, .dtype = DType::f32, .device = state_->device, .backend = state_->backend};
}

}  // namespace moe
