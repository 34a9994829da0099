// Speed of attention over cached keys on a GPU: one token of each of some sequences (decoding), or a prompt.
//   bench_cached [--batch A,B] [--context A,B] [--prompt A,B] [--heads N] [--kv-heads N] [--size N] [--page N] [--path
//   P]
// A line per batch and context: time of a call, its rate of reading keys and values, and that as a share of the rate at
// which the same card reads memory. A line per prompt: time and TFLOP/s. Calls go through several caches in turn,
// larger together than what a GPU keeps near its processors. They are queued behind other work, so that the time in
// which they are queued does not count.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "backend/cuda/cuda_backend.h"
#include "base/random.h"

namespace moe {
namespace {

struct Options {
  std::vector<int64_t> batches{1, 8, 64}, contexts{512, 4096, 16384}, prompts{512, 4096};
  int64_t page = 64, most_bytes = int64_t{6} << 30;
  int heads = 16, kv_heads = 16, size = 128, rounds = 7;
  std::string path = "automatic";
};

constexpr int64_t kAllCaches = int64_t{400} << 20;  ///< bytes that calls in turn read: several times an L2 cache

class Bench {
 public:
  explicit Bench(const Options& o) : options_(o) {
    head_start_ = floats(DType::f32, {int64_t{1} << 29});
    sum_ = room(DType::f64, {1});
    backend_->run(Fill{.x = sum_, .value = 0});
    std::vector<double> rates;
    for (int round = 0; round < 5; ++round) {
      const double seconds = timed([&] { backend_->run(SumSquares{.x = head_start_, .sum = sum_}); });
      if (round > 0) rates.push_back(static_cast<double>(head_start_.bytes()) / seconds);
    }
    memory_rate_ = median(rates);
    kept_ = memory_.size();
    fmt::print("memory is read at {:.0f} GB/s\n", memory_rate_ * 1e-9);
  }
  ~Bench() {
    for (void* data : memory_) device_->release(data);
  }

  void decode(int64_t batch, int64_t context) {
    const double bytes = measured_bytes(batch, context);
    if (bytes > static_cast<double>(options_.most_bytes)) return;
    const int count = static_cast<int>(std::clamp<int64_t>(kAllCaches / static_cast<int64_t>(bytes) + 1, 2, 64));
    std::vector<CachedAttention> calls;
    for (int i = 0; i < count; ++i) {
      std::vector<int32_t> sequence(static_cast<size_t>(batch));
      std::iota(sequence.begin(), sequence.end(), 0);
      calls.push_back(
          call(sequence, std::vector<int32_t>(sequence.size(), static_cast<int32_t>(context - 1)), context));
    }
    const double seconds = seconds_of(calls);
    const double rate = bytes / seconds;
    fmt::print(
        "decode, batch {:3} context {:6}, {}/{} heads of {}: {:8.1f} us {:6.0f} GB/s, {:.0f}% of memory's rate\n",
        batch, context, options_.heads, options_.kv_heads, options_.size, seconds * 1e6, rate * 1e-9,
        100 * rate / memory_rate_);
    forget();
  }

  void prompt(int64_t tokens) {
    std::vector<int32_t> positions(static_cast<size_t>(tokens));
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<CachedAttention> calls(2, call(std::vector<int32_t>(positions.size(), 0), positions, tokens));
    const double seconds = seconds_of(calls), length = static_cast<double>(tokens);
    const double work = 4 * length * (length + 1) / 2 * options_.heads * options_.size;
    fmt::print("prompt of {:6}, {}/{} heads of {}: {:8.1f} us {:6.0f} TFLOP/s\n", tokens, options_.heads,
               options_.kv_heads, options_.size, seconds * 1e6, work / seconds * 1e-12);
    forget();
  }

 private:
  /// Bytes of the keys and values that a call reads.
  double measured_bytes(int64_t batch, int64_t context) const {
    return 2.0 * 2.0 * static_cast<double>(batch * context * options_.kv_heads * options_.size);
  }

  CachedAttention call(const std::vector<int32_t>& sequence, const std::vector<int32_t>& positions, int64_t context) {
    const auto tokens = static_cast<int64_t>(sequence.size());
    const int64_t sequences = *std::max_element(sequence.begin(), sequence.end()) + 1;
    const int64_t each = (context + options_.page - 1) / options_.page;
    std::vector<int32_t> pages(static_cast<size_t>(sequences * each));
    std::iota(pages.begin(), pages.end(), 0);
    const Random random(5, ++streams_);
    for (size_t i = pages.size(); i-- > 1;) std::swap(pages[i], pages[random.below(i, i + 1)]);
    const int64_t width = int64_t{options_.heads} * options_.size, kv = int64_t{options_.kv_heads} * options_.size;
    return {.q = floats(DType::bf16, {tokens, width}),
            .k_cache = floats(DType::bf16, {sequences * each, options_.page, kv}),
            .v_cache = floats(DType::bf16, {sequences * each, options_.page, kv}),
            .sequence = integers(sequence, {tokens}),
            .positions = integers(positions, {tokens}),
            .pages = integers(pages, {sequences, each}),
            .heads = options_.heads,
            .kv_heads = options_.kv_heads,
            .scale = 1 / std::sqrt(static_cast<float>(options_.size)),
            .out = room(DType::bf16, {tokens, width})};
  }

  /// Of one call: the difference between many and half as many, both behind the head start.
  double seconds_of(const std::vector<CachedAttention>& calls) {
    force_cuda_path(options_.path);
    const auto queue = [&](int count) {
      return timed([&] {
        for (int i = 0; i < 4; ++i) backend_->run(SumSquares{.x = head_start_, .sum = sum_});
        for (int i = 0; i < count; ++i) backend_->run(calls[static_cast<size_t>(i) % calls.size()]);
      });
    };
    constexpr int kCalls = 64;
    std::vector<double> seconds;
    for (int round = 0; round <= options_.rounds; ++round) {  // the first warms up
      const double few = queue(kCalls), many = queue(2 * kCalls);
      if (round > 0) seconds.push_back((many - few) / kCalls);
    }
    force_cuda_path("automatic");
    return median(seconds);
  }

  template <class Work>
  double timed(const Work& work) {
    device_->synchronize();
    const auto started = std::chrono::steady_clock::now();
    work();
    device_->synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  }
  static double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  }

  View room(DType dtype, Shape shape) {
    memory_.push_back(device_->allocate(static_cast<size_t>(shape.elements()) * size_of(dtype), "a bench"));
    return View(memory_.back(), dtype, shape);
  }
  View integers(const std::vector<int32_t>& values, Shape shape) {
    const View view = room(DType::i32, shape);
    device_->upload(view.data, values.data(), view.bytes());
    return view;
  }
  /// Normal numbers, from one table, so that large tensors are made on the GPU.
  View floats(DType dtype, Shape shape) {
    constexpr int64_t kTable = 1 << 20;
    if (!table_) {
      std::vector<float> values(kTable);
      const Random random(1, 0);
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
      table_ = room(DType::f32, {kTable});
      device_->upload(table_.data, values.data(), table_.bytes());
    }
    const View view = room(dtype, shape), flat = view.reshaped({shape.elements()});
    for (int64_t begin = 0; begin < flat.elements();) {
      const int64_t skipped = static_cast<int64_t>(++streams_ * 7919 % 1024);
      const int64_t count = std::min(kTable - skipped, flat.elements() - begin);
      backend_->run(Cast{.x = table_.rows(skipped, count), .y = flat.rows(begin, count)});
      begin += count;
    }
    return view;
  }
  /// Releases what a line needed.
  void forget() {
    device_->synchronize();
    while (memory_.size() > kept_) {
      device_->release(memory_.back());
      memory_.pop_back();
    }
  }

  Options options_;
  std::unique_ptr<Device> device_ = make_cuda_device();
  std::unique_ptr<Backend> backend_ = make_cuda_backend(*device_);
  std::vector<void*> memory_;
  size_t kept_ = 0;  ///< of memory_: what every line needs
  uint64_t streams_ = 0;
  View table_, head_start_, sum_;
  double memory_rate_ = 0;  ///< bytes per second
};

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  CLI::App app("Speed of attention over cached keys on a GPU");
  moe::Options o;
  app.add_option("--batch", o.batches, "Sequences that decode together")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--context", o.contexts, "Keys that each of their tokens sees")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--prompt", o.prompts, "Tokens of a prompt")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--heads", o.heads, "Query heads")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--kv-heads", o.kv_heads, "Key heads; they divide the query heads")->capture_default_str();
  app.add_option("--size", o.size, "Elements of a head")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--page", o.page, "Tokens of a page")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", o.rounds, "Medians of so many")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--path", o.path, "Kernels: automatic, hopper, tensor, simt")
      ->check(CLI::IsMember({"automatic", "simt", "tensor", "hopper"}));
  CLI11_PARSE(app, argc, argv);
  if (const std::string why = moe::why_no_cuda(); !why.empty()) {
    fmt::print(stderr, "bench_cached: {}\n", why);
    return 1;
  }
  moe::Bench bench(o);
  for (const int64_t batch : o.batches) {
    for (const int64_t context : o.contexts) bench.decode(batch, context);
  }
  for (const int64_t tokens : o.prompts) bench.prompt(tokens);
  return 0;
}
