#include "backend/cuda/early.cuh"
#include "ops/next_token.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 512, kParts = 16;

struct NextTokens {
  const float* logits;
  int64_t logit_step;
  const int* allowed;
  int *ids, *positions, *log, *steps;
  unsigned long long* parts;
  int* arrived;  ///< of each row, 0 between operations
  int64_t log_step;
  int log_rows;
  int64_t vocabulary;
};

/// A number with the order of the choice, larger for a better token; 0: none, and kRefused: a logit that is no number.
constexpr unsigned long long kRefused = ~0ull;
__device__ unsigned long long rank_of(float logit, int64_t id) {
  if (!(logit < INFINITY)) return kRefused;
  if (logit == -INFINITY) return 0;
  const unsigned bits = __float_as_uint(logit + 0.0f);  // one zero
  const unsigned order = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<unsigned long long>(order) << 32 | (0xffffffffu - static_cast<unsigned>(id));
}

/// Blocks (row, part); the last one of a row to end merges their results.
__global__ void __launch_bounds__(kThreads) next_token_kernel(NextTokens p) {
  __shared__ unsigned long long best_of[kThreads / kWarp];
  let_next_start();
  wait_for_previous();
  const int row = static_cast<int>(blockIdx.x), part = static_cast<int>(blockIdx.y);
  const float* const logits = p.logits + row * p.logit_step;
  unsigned long long best = 0;
#pragma unroll 4
  for (int64_t v = part * kThreads + static_cast<int>(threadIdx.x); v < p.vocabulary; v += kParts * kThreads) {
    if (p.allowed == nullptr || p.allowed[v] != 0) best = max(best, rank_of(logits[v], v));
  }
  for (int other = kWarp / 2; other > 0; other /= 2) best = max(best, __shfl_xor_sync(0xffffffffu, best, other));
  if (threadIdx.x % kWarp == 0) best_of[threadIdx.x / kWarp] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (const unsigned long long other : best_of) best = max(best, other);
  p.parts[row * kParts + part] = best;
  __threadfence();
  if (atomicAdd(p.arrived + row, 1) < kParts - 1) return;
  p.arrived[row] = 0;
  __threadfence();
  for (int other = 0; other < kParts; ++other) {
    best = max(best, *static_cast<volatile unsigned long long*>(p.parts + row * kParts + other));
  }
  const int id = best == 0 || best == kRefused ? -1 : static_cast<int>(0xffffffffu - static_cast<unsigned>(best));
  p.ids[row] = id;
  ++p.positions[row];
  const int step = p.steps[row]++;
  if (step < p.log_rows) p.log[step * p.log_step + row] = id;
}

}  // namespace

template <>
void execute(Context& context, const NextToken& op) {
  const int64_t rows = op.ids.size(0);
  if (rows > kCounters) fail("{}: there are {} rows, on a GPU at most {}", NextToken::name, rows, kCounters);
  auto* const parts = Carver(context, NextToken::name).take<unsigned long long>(rows * kParts);
  launch_early(context, next_token_kernel, dim3(static_cast<unsigned>(rows), kParts), dim3(kThreads), 0,
               NextTokens{.logits = op.logits.as<const float>(),
                          .logit_step = op.logits.stride[0],
                          .allowed = op.allowed ? op.allowed.as<const int32_t>() : nullptr,
                          .ids = op.ids.as<int32_t>(),
                          .positions = op.positions.as<int32_t>(),
                          .log = op.log.as<int32_t>(),
                          .steps = op.steps.as<int32_t>(),
                          .parts = parts,
                          .arrived = context.counters,
                          .log_step = op.log.stride[0],
                          .log_rows = static_cast<int>(op.log.size(0)),
                          .vocabulary = op.logits.size(1)});
}

}  // namespace moe::cuda
