/// The memory-bound operations of a training step on the CPU, as a fraction of what a copy reaches in the same run.
/// bench_rows [threads] [f32|bf16]

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "base/random.h"

namespace moe {
namespace {

// The shapes of a step: 4 sequences of 1024, 1 + 63 experts of width 344, top 7.
constexpr int64_t kTokens = 4096, kHidden = 512, kExperts = 63, kTopK = 7, kWidth = 344, kVocabulary = 8192;
constexpr int64_t kRows = kTokens * kTopK;
constexpr int kRepeats = 7;

class Tensors {
 public:
  explicit Tensors(Device& device) : device_(device) {}
  ~Tensors() {
    for (void* data : owned_) device_.release(data);
  }
  View make(DType dtype, Shape shape) {
    const View view(nullptr, dtype, shape);
    void* data = device_.allocate(view.bytes(), "benchmark");
    owned_.push_back(data);
    return View(data, dtype, shape);
  }
  View real(DType dtype, Shape shape) {
    const View view = make(dtype, shape);
    const Random random(1, owned_.size());
    for (int64_t i = 0; i < view.elements(); ++i) {
      const auto value = static_cast<float>(random.bits(static_cast<uint64_t>(i)) % 2001) / 1000 - 1;
      if (dtype == DType::bf16) view.as<bf16>()[i] = to_bf16(value);
      if (dtype == DType::f32) view.as<float>()[i] = value;
    }
    return view;
  }
  View index(Shape shape, int64_t below) {
    const View view = make(DType::i32, shape);
    const Random random(2, owned_.size());
    for (int64_t i = 0; i < view.elements(); ++i) {
      const auto draw = random.bits(static_cast<uint64_t>(i)) % static_cast<uint64_t>(below);
      view.as<int32_t>()[i] = static_cast<int32_t>(draw);
    }
    return view;
  }

 private:
  Device& device_;
  std::vector<void*> owned_;
};

/// Processor time per thread, which others on the machine disturb less than they do the clock on the wall; the pool's
/// threads do not sleep between operations.
double seconds(int threads, const auto& body) {
  const std::clock_t start = std::clock();
  body();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC / threads;
}

/// Times operations and copies in turn, so that both see the same machine.
class Bench {
 public:
  Bench(Backend& backend, Tensors& tensors, int threads) : backend_(backend), threads_(threads) {
    constexpr int64_t kElements = int64_t{16} << 20;
    copy_ = {.x = tensors.real(DType::f32, {kElements}), .y = tensors.real(DType::f32, {kElements})};
  }

  template <class Op>
  void row(const Op& op, const std::string& note = "") {
    double best = 1e30, best_copy = 1e30;
    for (int i = 0; i < kRepeats; ++i) {
      best_copy = std::min(best_copy, seconds(threads_, [&] { backend_.run(copy_); }));
      best = std::min(best, seconds(threads_, [&] { backend_.run(op); }));
    }
    const double rate = static_cast<double>(traffic_bytes(op)) / best * 1e-9;
    const double copy_rate = static_cast<double>(traffic_bytes(copy_)) / best_copy * 1e-9;
    fmt::print("{:<22} {:>9.3f} ms {:>7.2f} GB/s {:>6.2f} of a copy  {}\n", Op::name, best * 1e3, rate,
               rate / copy_rate, note);
  }

 private:
  Backend& backend_;
  int threads_;
  Cast copy_;
};

void bench_rows(Bench& bench, Tensors& s, DType type) {
  const View x = s.real(type, {kTokens, kHidden}), y = s.real(type, {kTokens, kHidden});
  const View z = s.real(type, {kTokens, kHidden}), gain = s.real(type, {kHidden});
  const View stat = s.real(DType::f32, {kTokens});
  bench.row(RmsNorm{.x = x, .gain = gain, .eps = 1e-6f, .y = y, .inv_rms = stat});
  bench.row(RmsNorm{.x = x, .residual = z, .sum = x, .gain = gain, .eps = 1e-6f, .y = y, .inv_rms = stat}, "residual");
  bench.row(
      RmsNormBackward{.dy = y, .x = x, .gain = gain, .inv_rms = stat, .dx = z, .dgain = s.real(DType::f32, {kHidden})});
  const View gate_up = s.real(type, {kRows, 2 * kWidth}), hidden = s.real(type, {kRows, kWidth});
  const View scale = s.real(DType::f32, {kRows}), d_scale = s.real(DType::f32, {kRows});
  const View scale_index = s.make(DType::i32, {kRows});
  for (int64_t i = 0; i < kRows; ++i) scale_index.as<int32_t>()[i] = static_cast<int32_t>((i * 5) % kRows);
  bench.row(SwiGlu{.gate_up = gate_up, .scale = scale, .scale_index = scale_index, .y = hidden});
  bench.row(SwiGluBackward{.gate_up = gate_up,
                           .scale = scale,
                           .scale_index = scale_index,
                           .dy = hidden,
                           .d_gate_up = gate_up,
                           .y = hidden,
                           .d_scale = d_scale},
            "in place");
  const View table = s.real(DType::f32, {kTokens, 64});
  bench.row(RopeTable{.positions = s.index({kTokens}, 1024), .theta = 10000, .table = table});
  bench.row(Rope{.x = x, .table = table});
  bench.row(Add{.x = x, .y = y});
}

void bench_ends(Bench& bench, Tensors& s, DType type) {
  const View tokens = s.index({kTokens}, kVocabulary), x = s.real(type, {kTokens, kHidden});
  bench.row(Embed{.tokens = tokens, .table = s.real(type, {kVocabulary, kHidden}), .y = x});
  bench.row(EmbedBackward{.tokens = tokens, .dy = x, .d_table = s.real(DType::f32, {kVocabulary, kHidden})});
  const View scale = s.make(DType::f32, {1});
  *scale.as<float>() = 1e-3f;
  const View logits = s.real(type, {1024, kVocabulary});
  bench.row(CrossEntropy{.logits = logits,
                         .targets = s.index({1024}, kVocabulary),
                         .gradient_scale = scale,
                         .d_logits = logits,
                         .row_loss = s.real(DType::f32, {1024})},
            "1024 rows");
}

void bench_routing(Bench& bench, Tensors& s, DType type) {
  const View x = s.real(type, {kTokens, kHidden}), scores = s.real(DType::f32, {kTokens, kExperts});
  const View group = s.index({kTokens}, 4), ids = s.make(DType::i32, {kTokens, kTopK});
  const View gates = s.real(DType::f32, {kTokens, kTopK}), slot_row = s.make(DType::i32, {kTokens, kTopK});
  const View counts = s.index({4, kExperts}, 100), coefficients = s.real(DType::f32, {4, kExperts});
  bench.row(RouterScores{.x = x, .weight = s.real(DType::f32, {kExperts, kHidden}), .scores = scores});
  bench.row(RouterTopk{.scores = scores, .group = group, .ids = ids});
  bench.row(RouterGates{.scores = scores, .ids = ids, .gates = gates});
  bench.row(RoutePlan{.ids = ids,
                      .offsets = s.make(DType::i32, {kExperts + 1}),
                      .row_slot = s.make(DType::i32, {kRows}),
                      .row_token = s.make(DType::i32, {kRows}),
                      .slot_row = slot_row});
  bench.row(RowsCombine{.rows = s.real(type, {kRows, kHidden}), .slot_row = slot_row, .y = x});
  bench.row(RouterCounts{.ids = ids, .group = group, .experts = kExperts, .counts = counts});
  bench.row(
      BalanceLoss{.scores = scores, .group = group, .coefficients = coefficients, .loss = s.real(DType::f32, {1})});
  bench.row(RouterBackward{.scores = scores,
                           .ids = ids,
                           .d_gates = gates,
                           .group = group,
                           .coefficients = coefficients,
                           .form = GateForm::normalized,
                           .d_logits = s.real(DType::f32, {kTokens, kExperts})});
}

void bench_numbers(Bench& bench, Tensors& s, DType type) {
  const Shape shape{int64_t{8} << 20};
  const View param = s.real(type, shape), gradient = s.real(DType::f32, shape), one = s.real(DType::f32, {1});
  bench.row(Fill{.x = gradient, .value = 1e-3});
  bench.row(Cast{.x = gradient, .y = s.real(DType::bf16, shape)}, "f32 to bf16");
  bench.row(SumSquares{.x = gradient, .sum = s.make(DType::f64, {1})});
  bench.row(AdamW{.param = param,
                  .master = type == DType::bf16 ? s.real(DType::f32, shape) : View{},
                  .gradient = gradient,
                  .exp_avg = s.real(DType::f32, shape),
                  .exp_avg_sq = s.real(DType::f32, shape),
                  .gradient_scale = one,
                  .learning_rate = 1e-3f,
                  .beta1 = 0.9f,
                  .beta2 = 0.95f,
                  .eps = 1e-8f,
                  .weight_decay = 0.1f,
                  .step = 10});
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  using namespace moe;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const DType type = argc > 2 && std::string(argv[2]) == "bf16" ? DType::bf16 : DType::f32;
  ThreadPool pool(threads);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  Tensors tensors(*device);
  Bench bench(*backend, tensors, pool.size());
  fmt::print("{} threads, {}, {}\n", pool.size(), name(best_isa()), name(type));
  bench_rows(bench, tensors, type);
  bench_ends(bench, tensors, type);
  bench_routing(bench, tensors, type);
  bench_numbers(bench, tensors, type);
}
