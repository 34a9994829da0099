#include "backend/cpu/cpu_backend.h"

#include "backend/cpu/context.h"
#include "base/error.h"
#include "ops/types.h"

namespace moe {
namespace {

// Those that no kernel reads are widened (widened.h).
constexpr TypeSet kWeights = weight_types();
constexpr TypeSet kCaches{DType::f32, DType::bf16, DType::f16};
constexpr FieldTypes kOtherFields[] = {
    {"fill", "x", {DType::f64, DType::f32, DType::bf16, DType::i32, DType::u8}},
    {"sum_squares", "sum", {DType::f64}},
    {"grouped_gemm_reduce", "squares", {DType::f64}},
    {"clip_scale", "sum_squares", {DType::f64}},
    {"gemm", "b", kWeights},
    {"grouped_gemm", "b", kWeights},
    {"rms_norm", "gain", kWeights},
    {"router_scores", "weight", kWeights},
    {"embed", "table", kWeights},
    {"kv_append", "k_cache", kCaches},
    {"kv_append", "v_cache", kCaches},
    {"cached_attention", "k_cache", kCaches},
    {"cached_attention", "v_cache", kCaches},
};
constexpr AcceptedTypes kTypes{"the CPU", {DType::f32, DType::bf16, DType::i32}, kOtherFields};

class CpuBackend final : public EachOp<CpuBackend> {
 public:
  CpuBackend(ThreadPool& pool, Isa isa) : context_{pool, cpu::kernels_for(isa), cpu::Scratch(pool.size())} {}

  template <class Op>
  void on(const Op& op) {
    require_types(kTypes, op);
    cpu::execute(context_, op);
  }

  const AcceptedTypes* accepts() const override { return &kTypes; }
  bool fuses() const override { return true; }
  using EachOp<CpuBackend>::execute;
  void execute(const ExpertRows<SwiGlu>& rows) override { on(rows); }
  void execute(const ExpertRows<SwiGluBackward>& rows) override { on(rows); }

 private:
  cpu::Context context_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, Isa isa) {
  if (!supports(isa)) fail("this processor has no {} instructions: use {}", name(isa), name(best_isa()));
  return std::make_unique<CpuBackend>(pool, isa);
}

}  // namespace moe
