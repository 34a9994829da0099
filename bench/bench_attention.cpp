// Rates of attention on a GPU, forward and backward, by the kernels of each path in turn.
//   bench_attention [--rows N] [--length N] [--document N] [--heads N] [--kv-heads N] [--size N] [--rounds N] [--paths
//   A,B]
// Two rates of the backward pass: 2.5 times the forward's operations (with the scores made again), and 2 times.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "backend/cuda/cuda_backend.h"
#include "base/random.h"

namespace moe {
namespace {

struct Options {
  int64_t rows = 32, length = 2048, document = 0;
  int heads = 10, kv_heads = 10, size = 128, rounds = 7;
  std::vector<std::string> paths{"hopper", "tensor"};
};

class Bench {
 public:
  explicit Bench(const Options& o) : options_(o) {
    const int64_t tokens = o.rows * o.length, q = int64_t{o.heads} * o.size, kv = int64_t{o.kv_heads} * o.size;
    const int64_t document = o.document > 0 ? o.document : o.length;
    std::vector<int32_t> starts(static_cast<size_t>(tokens));
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t in_row = t % o.length;
      starts[static_cast<size_t>(t)] = static_cast<int32_t>(t - in_row % document);
      const int64_t seen = in_row % document + 1;
      pairs_ += static_cast<double>(seen);
    }
    const View start = room(DType::i32, {tokens});
    device_->upload(start.data, starts.data(), start.bytes());
    const View qkv = normal({tokens, q + 2 * kv}), gradient = room(DType::bf16, {tokens, q + 2 * kv});
    forward_ = {.q = qkv.columns(0, q),
                .k = qkv.columns(q, kv),
                .v = qkv.columns(q + kv, kv),
                .segment_start = start,
                .heads = o.heads,
                .kv_heads = o.kv_heads,
                .scale = 1 / std::sqrt(static_cast<float>(o.size)),
                .max_segment = document,
                .out = room(DType::bf16, {tokens, q}),
                .lse = room(DType::f32, {tokens, o.heads})};
    backward_ = {.q = forward_.q,
                 .k = forward_.k,
                 .v = forward_.v,
                 .segment_start = start,
                 .out = forward_.out,
                 .lse = forward_.lse,
                 .d_out = normal({tokens, q}),
                 .heads = o.heads,
                 .kv_heads = o.kv_heads,
                 .scale = forward_.scale,
                 .max_segment = document,
                 .dq = gradient.columns(0, q),
                 .dk = gradient.columns(q, kv),
                 .dv = gradient.columns(q + kv, kv)};
  }
  ~Bench() {
    for (void* data : memory_) device_->release(data);
  }

  void run() {
    std::vector<std::vector<double>> forward(options_.paths.size()), backward(options_.paths.size());
    for (int round = 0; round <= options_.rounds; ++round) {  // the first warms up
      for (size_t i = 0; i < options_.paths.size(); ++i) {
        const double f = seconds(options_.paths[i], forward_), b = seconds(options_.paths[i], backward_);
        if (round == 0) continue;
        forward[i].push_back(f);
        backward[i].push_back(b);
      }
    }
    const double work = 4 * pairs_ * options_.heads * options_.size * 1e-12;
    for (size_t i = 0; i < options_.paths.size(); ++i) {
      const double f = median(forward[i]), b = median(backward[i]);
      fmt::print(
          "{:7} {} x {} tokens, {}/{} heads of {}{}: forward {:.3f} ms {:.0f} TFLOP/s, backward {:.3f} ms {:.0f} "
          "TFLOP/s by 2.5 x forward, {:.0f} by 2 x\n",
          options_.paths[i], options_.rows, options_.length, options_.heads, options_.kv_heads, options_.size,
          options_.document > 0 ? fmt::format(", documents of {}", options_.document) : "", f * 1e3, work / f, b * 1e3,
          2.5 * work / b, 2 * work / b);
    }
  }

 private:
  View room(DType dtype, Shape shape) {
    memory_.push_back(device_->allocate(static_cast<size_t>(shape.elements()) * size_of(dtype), "a bench"));
    return View(memory_.back(), dtype, shape);
  }
  View normal(Shape shape) {
    constexpr size_t kPeriod = 1 << 20;
    std::vector<bf16> values(static_cast<size_t>(shape.elements()));
    const Random random(1, ++streams_);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = i < kPeriod ? to_bf16(static_cast<float>(random.normal(i))) : values[i - kPeriod + i / kPeriod];
    }
    const View view = room(DType::bf16, shape);
    device_->upload(view.data, values.data(), view.bytes());
    return view;
  }

  template <class Op>
  double seconds(const std::string& path, const Op& op) {
    force_cuda_path(path);
    backend_->run(op);
    device_->synchronize();
    constexpr int kCalls = 8;
    const auto started = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) backend_->run(op);
    device_->synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() / kCalls;
  }
  static double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  }

  Options options_;
  std::unique_ptr<Device> device_ = make_cuda_device();
  std::unique_ptr<Backend> backend_ = make_cuda_backend(*device_);
  std::vector<void*> memory_;
  uint64_t streams_ = 0;
  double pairs_ = 0;  ///< of a query and a key that it sees, in one head
  Attention forward_;
  AttentionBackward backward_;
};

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  CLI::App app("Rates of attention on a GPU, forward and backward, by the kernels of each path in turn");
  moe::Options options;
  app.add_option("--rows", options.rows, "Rows of the batch")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--length", options.length, "Tokens of a row")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--document", options.document, "Tokens of a document (default: a row's)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--heads", options.heads, "Query heads")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--kv-heads", options.kv_heads, "Key heads; they divide the query heads")->capture_default_str();
  app.add_option("--size", options.size, "Elements of a head")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", options.rounds, "Medians of so many")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--paths", options.paths, "Kernels: hopper, tensor, simt, automatic")
      ->delimiter(',')
      ->check(CLI::IsMember({"automatic", "simt", "tensor", "hopper"}));
  CLI11_PARSE(app, argc, argv);
  if (const std::string why = moe::why_no_cuda(); !why.empty()) {
    fmt::print(stderr, "bench_attention: {}\n", why);
    return 1;
  }
  moe::Bench(options).run();
  return 0;
}
