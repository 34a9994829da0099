// Rates of the CPU's matrix operations, each as a fraction of the FMA rate measured beside it.
//   bench_matrix [--threads N] [--filter TEXT] [--seconds S]

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include <CLI/CLI.hpp>
#include <time.h>

#include "backend/cpu/context.h"
#include "backend/cpu/cpu_backend.h"
#include "base/random.h"

namespace moe {
namespace {

double now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Tensors that live until the program ends.
class Tensors {
 public:
  View zeros(DType dtype, Shape shape) {
    View view(nullptr, dtype, shape);
    view.data =
        device_->allocate(std::max<size_t>(static_cast<size_t>(shape.elements()) * size_of(dtype), 64), "bench");
    std::fill_n(static_cast<char*>(view.data), view.bytes(), char{0});
    return view;
  }
  View normal(DType dtype, Shape shape) {
    View view = zeros(dtype, shape);
    for (int64_t i = 0; i < shape.elements(); ++i) {
      seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
      const float x = static_cast<float>(static_cast<int32_t>(seed_ >> 32)) * 0x1p-31f;
      if (dtype == DType::bf16) {
        view.as<bf16>()[i] = to_bf16(x);
      } else {
        view.as<float>()[i] = x;
      }
    }
    return view;
  }
  View indices(const std::vector<int32_t>& values) {
    View view = zeros(DType::i32, {static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), view.as<int32_t>());
    return view;
  }

 private:
  std::unique_ptr<Device> device_ = make_cpu_device();
  uint64_t seed_ = 1;
};

class Bench {
 public:
  Bench(int threads, Isa isa, std::string filter, double seconds)
      : pool_(threads),
        isa_(isa),
        backend_(make_cpu_backend(pool_, isa)),
        filter_(std::move(filter)),
        seconds_(seconds) {}

  /// Whether a line whose name begins so can be wanted.
  bool wants(const std::string& beginning) const {
    const size_t shared = std::min(beginning.size(), filter_.size());
    return beginning.find(filter_) != std::string::npos || beginning.compare(0, shared, filter_, 0, shared) == 0;
  }
  int threads() const { return pool_.size(); }

  /// The best rates of several rounds, by the clock and by the threads' processor time; the second is what an otherwise
  /// idle machine would show, but for waiting.
  void measure(const std::string& name, double work, const char* unit, const std::function<void()>& call) {
    if (name.find(filter_) == std::string::npos) return;
    call();
    const double peak_before = peak();
    double best_wall = 1e30, best_cpu = 1e30;
    const double end = now(CLOCK_MONOTONIC) + seconds_;
    for (int round = 0; round < 3 || now(CLOCK_MONOTONIC) < end; ++round) {
      const double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
      call();
      best_wall = std::min(best_wall, now(CLOCK_MONOTONIC) - wall);
      best_cpu = std::min(best_cpu, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    }
    const double fma = std::max(peak_before, peak()), by_cpu = work / (best_cpu / threads()) * 1e-9;
    fmt::print("{:44} {:9.3f} ms {:8.1f} {}  {:5.1f}% | by CPU time {:8.1f}  {:5.1f}% of FMA {:.0f}\n", name,
               best_wall * 1e3, work / best_wall * 1e-9, unit, work / best_wall * 1e-7 / fma, by_cpu,
               by_cpu / fma * 100, fma);
    std::fflush(stdout);
  }

  template <class Op>
  void products(const std::string& name, const Op& op) {
    measure(name, static_cast<double>(flops(op)), "GFLOP/s", [&] { backend_->run(op); });
  }
  template <class Op>
  void traffic(const std::string& name, const Op& op, double bytes) {
    measure(name, bytes, "GB/s   ", [&] { backend_->run(op); });
  }

 private:
  /// FMAs on registers alone, on all threads by their processor time: GFLOP/s, the median of some rounds.
  double peak() {
    constexpr int64_t kSteps = 2000000;
    std::vector<double> rates;
    for (int round = 0; round < 5; ++round) {
      std::vector<double> rate(static_cast<size_t>(threads()));
      pool_.parallel_for(threads(), [&](int64_t i, int) {
        const double cpu = now(CLOCK_THREAD_CPUTIME_ID);
        const auto work = static_cast<double>(cpu::kernels_for(isa_).matrix.multiply_add(kSteps, false));
        rate[static_cast<size_t>(i)] = work / (now(CLOCK_THREAD_CPUTIME_ID) - cpu) * 1e-9;
      });
      rates.push_back(std::accumulate(rate.begin(), rate.end(), 0.0));
    }
    std::nth_element(rates.begin(), rates.begin() + 2, rates.end());
    return rates[2];
  }

  ThreadPool pool_;
  Isa isa_;
  std::unique_ptr<Backend> backend_;
  std::string filter_;
  double seconds_;
};

void dense(Bench& bench, DType dtype, int64_t m, int64_t n, int64_t k, const char* layout) {
  const std::string name = fmt::format("gemm {} {} {}x{}x{}", moe::name(dtype), layout, m, n, k);
  if (!bench.wants(name)) return;
  Tensors t;
  const bool ta = layout[0] == 'T', tb = layout[1] == 'T';
  const Gemm op{.a = ta ? t.normal(dtype, {k, m}) : t.normal(dtype, {m, k}),
                .b = tb ? t.normal(dtype, {n, k}) : t.normal(dtype, {k, n}),
                .c = t.zeros(dtype, {m, n}),
                .transpose_a = ta,
                .transpose_b = tb};
  bench.products(name, op);
  if (m <= 8) bench.traffic(name + " (reading b)", op, static_cast<double>(op.b.bytes()));
}

/// Rows per expert, balanced or falling as 1 / (e + 4).
std::vector<int32_t> offsets_of(int64_t rows, int64_t experts, bool skewed) {
  std::vector<double> weight(static_cast<size_t>(experts), 1.0);
  for (size_t e = 0; skewed && e < weight.size(); ++e)
    weight[e] = 1.0 / static_cast<double>((e * 37) % weight.size() + 4);
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::vector<int32_t> offsets{0};
  double sum = 0;
  for (const double w : weight)
    offsets.push_back(static_cast<int32_t>((sum += w) / total * static_cast<double>(rows) + 0.5));
  return offsets;
}

void grouped(Bench& bench, DType dtype, bool skewed) {
  constexpr int64_t tokens = 4096, top = 7, experts = 63, d = 512, f = 344, rows = tokens * top;
  const std::string what = fmt::format("grouped {} {} ", name(dtype), skewed ? "skewed" : "balanced");
  if (!bench.wants(what)) return;
  Tensors t;
  const View offsets = t.indices(offsets_of(rows, experts, skewed));
  std::vector<int32_t> token(static_cast<size_t>(rows));
  for (size_t r = 0; r < token.size(); ++r) token[r] = static_cast<int32_t>(r * 2654435761u % tokens);
  const View from = t.indices(token);
  const View x = t.normal(dtype, {tokens, d}), h = t.normal(dtype, {rows, f}), gu = t.normal(dtype, {rows, 2 * f});
  const View y = t.zeros(dtype, {rows, d}), dx = t.zeros(dtype, {rows, d});
  const View w1 = t.normal(dtype, {experts, 2 * f, d}), w2 = t.normal(dtype, {experts, d, f});
  const View dw1 = t.zeros(DType::f32, {experts, 2 * f, d}), dw2 = t.zeros(DType::f32, {experts, d, f});
  const auto label = [&](const char* text) { return what + text; };
  bench.products(label("up 688x512 gathered"),
                 GroupedGemm{.a = x, .a_rows = from, .offsets = offsets, .b = w1, .c = gu, .transpose_b = true});
  bench.products(label("down 512x344"), GroupedGemm{.a = h, .offsets = offsets, .b = w2, .c = y, .transpose_b = true});
  bench.products(label("d_h 344x512 gathered"),
                 GroupedGemm{.a = x, .a_rows = from, .offsets = offsets, .b = w2, .c = h});
  bench.products(label("d_x 512x688"), GroupedGemm{.a = gu, .offsets = offsets, .b = w1, .c = dx});
  bench.products(label("dW up 688x512"),
                 GroupedGemmReduce{.a = gu, .b = x, .b_rows = from, .offsets = offsets, .c = dw1, .accumulate = true});
  bench.products(label("dW down 512x344"),
                 GroupedGemmReduce{.a = x, .a_rows = from, .b = h, .offsets = offsets, .c = dw2, .accumulate = true});
}

void attention(Bench& bench, DType dtype, int64_t sequences, int64_t length, int heads, int kv_heads,
               int64_t head_size) {
  const std::string what =
      fmt::format("{} {}x{} {}/{} heads of {}", name(dtype), sequences, length, heads, kv_heads, head_size);
  if (!bench.wants("attention " + what) && !bench.wants("attention backward " + what)) return;
  Tensors t;
  const int64_t tokens = sequences * length, width = heads * head_size, kv_width = kv_heads * head_size;
  std::vector<int32_t> start(static_cast<size_t>(tokens));
  for (size_t i = 0; i < start.size(); ++i) start[i] = static_cast<int32_t>(i - i % static_cast<size_t>(length));
  const Attention op{.q = t.normal(dtype, {tokens, width}),
                     .k = t.normal(dtype, {tokens, kv_width}),
                     .v = t.normal(dtype, {tokens, kv_width}),
                     .segment_start = t.indices(start),
                     .heads = heads,
                     .kv_heads = kv_heads,
                     .scale = 0.125f,
                     .max_segment = length,
                     .out = t.zeros(dtype, {tokens, width}),
                     .lse = t.zeros(DType::f32, {tokens, heads})};
  const AttentionBackward back{.q = op.q,
                               .k = op.k,
                               .v = op.v,
                               .segment_start = op.segment_start,
                               .out = op.out,
                               .lse = op.lse,
                               .d_out = t.normal(dtype, {tokens, width}),
                               .heads = heads,
                               .kv_heads = kv_heads,
                               .scale = op.scale,
                               .max_segment = length,
                               .dq = t.zeros(dtype, {tokens, width}),
                               .dk = t.zeros(dtype, {tokens, kv_width}),
                               .dv = t.zeros(dtype, {tokens, kv_width})};
  bench.products("attention " + what, op);
  bench.products("attention backward " + what, back);
}

void decode(Bench& bench, DType dtype, int64_t sequences, int64_t length, int heads, int kv_heads, int64_t head_size) {
  const std::string what =
      fmt::format("decode {} {}x{} {}/{} heads of {}", name(dtype), sequences, length, heads, kv_heads, head_size);
  if (!bench.wants(what)) return;
  Tensors t;
  const int64_t width = heads * head_size, kv_width = kv_heads * head_size;
  std::vector<int32_t> sequence(static_cast<size_t>(sequences)),
      positions(sequence.size(), static_cast<int32_t>(length - 1));
  std::iota(sequence.begin(), sequence.end(), 0);
  constexpr int64_t kPageTokens = 64;
  const int64_t each = (length + kPageTokens - 1) / kPageTokens;
  std::vector<int32_t> pages(static_cast<size_t>(sequences * each));
  std::iota(pages.begin(), pages.end(), 0);
  const CachedAttention op{.q = t.normal(dtype, {sequences, width}),
                           .k_cache = t.normal(dtype, {sequences * each, kPageTokens, kv_width}),
                           .v_cache = t.normal(dtype, {sequences * each, kPageTokens, kv_width}),
                           .sequence = t.indices(sequence),
                           .positions = t.indices(positions),
                           .pages = t.indices(pages).reshaped({sequences, each}),
                           .heads = heads,
                           .kv_heads = kv_heads,
                           .scale = 0.125f,
                           .out = t.zeros(dtype, {sequences, width})};
  bench.traffic(what, op, static_cast<double>(op.k_cache.bytes() + op.v_cache.bytes()));
}

void run_all(Bench& bench) {
  for (const char* layout : {"NN", "NT", "TN"}) dense(bench, DType::f32, 4096, 4096, 4096, layout);
  dense(bench, DType::bf16, 4096, 4096, 4096, "NT");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    dense(bench, dtype, 4096, 1536, 512, "NT");
    dense(bench, dtype, 4096, 512, 512, "NN");
    dense(bench, dtype, 512, 512, 4096, "TN");
    dense(bench, dtype, 1024, 8192, 512, "NT");
    for (const bool skewed : {false, true}) grouped(bench, dtype, skewed);
    for (const int64_t m : {1, 4, 8}) dense(bench, dtype, m, 8192, 2048, "NT");
    attention(bench, dtype, 4, 1024, 8, 8, 64);
    decode(bench, dtype, 8, 4096, 8, 8, 64);
  }
  attention(bench, DType::f32, 1, 4096, 16, 4, 128);
  attention(bench, DType::f32, 16, 256, 4, 4, 64);
  decode(bench, DType::f32, 1, 16384, 16, 4, 128);
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  CLI::App app("Rates of the CPU's matrix operations beside its FMA rate");
  int threads = 0;
  double seconds = 0.5;
  std::string filter, isa = moe::name(moe::best_isa());
  app.add_option("--threads", threads, "Threads (0: one per processor)");
  app.add_option("--filter", filter, "Only lines whose name contains this");
  app.add_option("--seconds", seconds, "Time for each line");
  app.add_option("--isa", isa, "Instruction set")->check(CLI::IsMember({"baseline", "avx2", "avx512", "avx512_bf16"}));
  CLI11_PARSE(app, argc, argv);
  moe::Isa set = moe::Isa::baseline;
  for (const moe::Isa known : moe::kAllIsas) {
    if (isa == moe::name(known)) set = known;
  }
  moe::Bench bench(threads, set, filter, seconds);
  moe::run_all(bench);
}
