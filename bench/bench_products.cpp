// Rates of a training step's products on a GPU, each apart: the six of a MoE layer's experts, with rows gathered as in
// the layer and with rows that are already sorted, and the dense ones. The sizes are DeepSeekMoE 2B's.
//   bench_products [--path NAME] [--tokens N] [--hidden N] [--width N] [--experts N] [--top-k N] [--rounds N] [--filter
//   TEXT]

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "backend/cuda/cuda_backend.h"
#include "base/random.h"

namespace moe {
namespace {

struct Options {
  int64_t tokens = 65536, hidden = 1280, width = 864, experts = 63, top_k = 7, vocabulary = 8192, head_rows = 8192;
  int rounds = 5;
  std::string path = "automatic", filter;
};

class Bench {
 public:
  explicit Bench(const Options& o) : o_(o) {}
  ~Bench() {
    for (void* data : memory_) device_->release(data);
  }

  void experts() {
    deal();
    const int64_t rows = o_.tokens * o_.top_k, d = o_.hidden, f = o_.width, e = o_.experts;
    const View x = normal({o_.tokens, d}), sorted = normal({rows, d}), gate_up = normal({rows, 2 * f});
    const View activated = normal({rows, f}), result = room(DType::bf16, {rows, std::max(d, 2 * f)});
    const View first = normal({e, 2 * f, d}), second = normal({e, d, f});
    const View d_first = room(DType::f32, {e, 2 * f, d}), d_second = room(DType::f32, {e, d, f});
    const auto part = [&](int64_t columns) { return View(result.data, DType::bf16, {rows, columns}); };
    for (const bool gathered : {true, false}) {
      const View a = gathered ? x : sorted, picked = gathered ? rows_ : View{};
      const std::string how = gathered ? "gathered" : "sorted";
      measure("gate_up, " + how,
              GroupedGemm{
                  .a = a, .a_rows = picked, .offsets = offsets_, .b = first, .c = part(2 * f), .transpose_b = true});
      measure("d_activated, " + how,
              GroupedGemm{.a = a, .a_rows = picked, .offsets = offsets_, .b = second, .c = part(f)});
      measure("d_down, " + how,
              GroupedGemmReduce{.a = a, .a_rows = picked, .b = activated, .offsets = offsets_, .c = d_second});
      measure("d_gate_up, " + how,
              GroupedGemmReduce{.a = gate_up, .b = a, .b_rows = picked, .offsets = offsets_, .c = d_first});
    }
    measure("down", GroupedGemm{.a = activated, .offsets = offsets_, .b = second, .c = part(d), .transpose_b = true});
    measure("d_rows", GroupedGemm{.a = gate_up, .offsets = offsets_, .b = first, .c = part(d)});
  }

  /// The passes of all experts, and their operations in turn.
  void layer() {
    deal();
    const int64_t rows = o_.tokens * o_.top_k, d = o_.hidden, f = o_.width, e = o_.experts;
    const View x = normal({o_.tokens, d}), gate_up = normal({rows, 2 * f}), activated = normal({rows, f});
    const View first = normal({e, 2 * f, d}), second = normal({e, d, f}), result = room(DType::bf16, {rows, d});
    std::vector<int32_t> slots(static_cast<size_t>(rows));
    std::iota(slots.begin(), slots.end(), 0);
    const View scale = room(DType::f32, {rows}), slot = integers(slots);
    backend_->run(Fill{.x = scale, .value = 0.14});
    const View count = offsets_.rows(e, 1);
    both(
        "experts, forward",
        ExpertRows<SwiGlu>{
            .first = {.a = x, .a_rows = rows_, .offsets = offsets_, .b = first, .c = gate_up, .transpose_b = true},
            .activation = {.gate_up = gate_up, .scale = scale, .scale_index = slot, .row_count = count, .y = activated},
            .last = {.a = activated, .offsets = offsets_, .b = second, .c = result, .transpose_b = true}});
    const View d_gate_up = normal({rows, 2 * f}), dy = normal({o_.tokens, d}), d_scale = room(DType::f32, {rows});
    const ExpertRows<SwiGluBackward> back{
        .first = {.a = dy, .a_rows = rows_, .offsets = offsets_, .b = second, .c = activated},
        .activation = {.gate_up = gate_up,
                       .scale = scale,
                       .scale_index = slot,
                       .row_count = count,
                       .dy = activated,
                       .d_gate_up = d_gate_up,
                       .y = activated,
                       .d_scale = d_scale},
        .last = {.a = d_gate_up, .offsets = offsets_, .b = first, .c = result}};
    both({.rows = back,
          .down = {.a = dy, .a_rows = rows_, .b = activated, .offsets = offsets_, .c = room(DType::f32, {e, d, f})},
          .gate_up =
              {.a = d_gate_up, .b = x, .b_rows = rows_, .offsets = offsets_, .c = room(DType::f32, {e, 2 * f, d})},
          .slot_row = token_rows_});
    const RowsGather gather{.x = x, .slot_row = token_rows_, .rows = result};
    measure("gather", 0, [&] { backend_->run(gather); });
  }

  /// y = x w^T, dx = dy w and dw = dy^T x.
  void dense(const std::string& name, int64_t rows, int64_t in, int64_t out, DType result = DType::bf16) {
    const View x = normal({rows, in}), w = normal({out, in}), y = normal({rows, out});
    measure(name, Gemm{.a = x, .b = w, .c = room(result, {rows, out}), .transpose_b = true});
    measure(name + ", dx", Gemm{.a = y, .b = w, .c = room(DType::bf16, {rows, in})});
    measure(name + ", dw", Gemm{.a = y, .b = x, .c = room(DType::f32, {out, in}), .transpose_a = true});
    if (rows != o_.tokens) {
      measure(name + ", dw added",
              Gemm{.a = y, .b = x, .c = room(DType::f32, {out, in}), .transpose_a = true, .accumulate = true});
    }
  }

 private:
  /// Experts at random for each token, all different, and the rows sorted by expert.
  void deal() {
    std::vector<std::vector<int32_t>> chosen(static_cast<size_t>(o_.experts));
    const Random random(5, 0);
    uint64_t draw = 0;
    for (int64_t t = 0; t < o_.tokens; ++t) {
      for (int64_t k = 0; k < o_.top_k;) {
        auto& expert = chosen[static_cast<size_t>(random.below(draw++, static_cast<uint64_t>(o_.experts)))];
        if (!expert.empty() && expert.back() == t) continue;
        expert.push_back(static_cast<int32_t>(t));
        ++k;
      }
    }
    std::vector<int32_t> offsets{0}, rows;
    for (const auto& tokens : chosen) {
      rows.insert(rows.end(), tokens.begin(), tokens.end());
      offsets.push_back(static_cast<int32_t>(rows.size()));
    }
    offsets_ = integers(offsets);
    rows_ = integers(rows);
    std::vector<int32_t> of_token(rows.size());
    std::vector<int64_t> dealt(static_cast<size_t>(o_.tokens), 0);
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto token = static_cast<size_t>(rows[r]);
      of_token[token * static_cast<size_t>(o_.top_k) + static_cast<size_t>(dealt[token]++)] = static_cast<int32_t>(r);
    }
    token_rows_ = integers(of_token).reshaped({o_.tokens, o_.top_k});
  }

  View room(DType dtype, Shape shape) {
    memory_.push_back(device_->allocate(static_cast<size_t>(shape.elements()) * size_of(dtype), "a bench"));
    return View(memory_.back(), dtype, shape);
  }
  View integers(const std::vector<int32_t>& values) {
    const View view = room(DType::i32, {static_cast<int64_t>(values.size())});
    device_->upload(view.data, values.data(), view.bytes());
    return view;
  }
  View normal(Shape shape) {
    constexpr int64_t kPeriod = 1048573;
    if (table_.empty()) {
      for (int64_t i = 0; i < kPeriod; ++i) {
        table_.push_back(to_bf16(static_cast<float>(Random(1, 1).normal(static_cast<uint64_t>(i)))));
      }
    }
    const View view = room(DType::bf16, shape);
    for (int64_t at = 0; at < shape.elements(); at += kPeriod) {
      const int64_t count = std::min(kPeriod, shape.elements() - at);
      device_->upload(static_cast<char*>(view.data) + 2 * at, table_.data(), static_cast<size_t>(2 * count));
    }
    return view;
  }

  void both(const std::string& name, const ExpertRows<SwiGlu>& rows) {
    measure(name, rows);
    measure(name + ", in turn", flops(rows), [&] {
      backend_->run(rows.first);
      backend_->run(rows.activation);
      backend_->run(rows.last);
    });
  }
  void both(const ExpertsBackward& op) {
    const int64_t operations = flops(op.rows) + flops(op.down) + flops(op.gate_up);
    measure("experts, backward", operations, [&] { backend_->run(op); });
    measure("experts, backward, in turn", operations, [&] {
      backend_->run(op.rows);
      backend_->run(op.down);
      backend_->run(op.gate_up);
    });
  }
  template <class Op>
  void measure(const std::string& name, const Op& op) {
    measure(name, flops(op), [&] { backend_->run(op); });
  }
  template <class Call>
  void measure(const std::string& name, int64_t operations, const Call& call) {
    if (name.find(o_.filter) == std::string::npos) return;
    constexpr int kCalls = 6;
    std::vector<double> times;
    for (int round = 0; round <= o_.rounds; ++round) {
      device_->synchronize();
      const auto started = std::chrono::steady_clock::now();
      for (int i = 0; i < kCalls; ++i) call();
      device_->synchronize();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() / kCalls;
      if (round > 0) times.push_back(seconds);
    }
    std::nth_element(times.begin(), times.begin() + o_.rounds / 2, times.end());
    const double median = times[static_cast<size_t>(o_.rounds / 2)];
    fmt::print("{:26} {:8.3f} ms {:6.0f} TFLOP/s\n", name, 1e3 * median,
               1e-12 * static_cast<double>(operations) / median);
  }

  Options o_;
  std::unique_ptr<Device> device_ = make_cuda_device();
  std::unique_ptr<Backend> backend_ = make_cuda_backend(*device_);
  std::vector<void*> memory_;
  std::vector<bf16> table_;
  View offsets_, rows_, token_rows_;
};

void run(const Options& o) {
  force_cuda_path(o.path);
  Bench(o).layer();
  Bench(o).experts();
  Bench dense(o);
  const int64_t d = o.hidden;
  dense.dense("q, k, v", o.tokens, d, 3 * d);
  dense.dense("attention's output", o.tokens, d, d);
  dense.dense("shared gate_up", o.tokens, d, 2 * o.width);
  dense.dense("shared down", o.tokens, o.width, d);
  dense.dense("head", o.head_rows, d, o.vocabulary, DType::f32);
  dense.dense("8192^3", 8192, 8192, 8192);
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  CLI::App app("Rates of a training step's products on a GPU, each apart");
  moe::Options o;
  app.add_option("--tokens", o.tokens, "Tokens of a step")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--hidden", o.hidden, "Hidden size")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--width", o.width, "Width of an expert")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--experts", o.experts, "Routed experts")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--top-k", o.top_k, "Experts of a token")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--vocabulary", o.vocabulary, "Rows of the head")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--head-rows", o.head_rows, "Tokens of a chunk of the head")->check(CLI::PositiveNumber);
  app.add_option("--rounds", o.rounds, "Medians of so many")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--path", o.path, "Kernels: automatic, hopper, portable, tensor (own ones of all GPUs) or simt")
      ->check(CLI::IsMember({"automatic", "hopper", "portable", "tensor", "simt"}))
      ->capture_default_str();
  app.add_option("--filter", o.filter, "Only products whose name contains this");
  CLI11_PARSE(app, argc, argv);
  if (o.top_k > o.experts) return app.exit(CLI::ValidationError("--top-k", "is more than --experts"));
  try {
    moe::run(o);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_products: {}\n", e.what());
    return 1;
  }
}
