#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/few_tokens.h"
#include "backend/cuda/products.h"
#include "backend/cuda/token_choice.cuh"

namespace moe::cuda {
namespace {

constexpr int kFewSlots = 1024;
constexpr int kThreads = 512;
constexpr int64_t kFewTokens = 64, kTokensOfABlock = 8;
constexpr int kMostExperts = 512, kMostChosen = 64;
constexpr int kPlanNumbers = kFewSlots + kMostExperts + 1;  ///< of a block that plans slots

struct Plan {
  const int* ids;
  int64_t id_step, rows;
  int slots, count, first, experts;
  int *offsets, *row_slot, *row_token, *slot_row;
  int64_t slot_step;
};

Plan plan_of(const RoutePlan& op) {
  return {.ids = op.ids.as<const int32_t>(),
          .id_step = op.ids.stride[0],
          .rows = op.row_slot.size(0),
          .slots = static_cast<int>(op.ids.elements()),
          .count = static_cast<int>(op.ids.size(1)),
          .first = static_cast<int>(op.first),
          .experts = static_cast<int>(op.offsets.size(0) - 1),
          .offsets = op.offsets.as<int32_t>(),
          .row_slot = op.row_slot.as<int32_t>(),
          .row_token = op.row_token.as<int32_t>(),
          .slot_row = op.slot_row.as<int32_t>(),
          .slot_step = op.slot_row.stride[0]};
}

/// A slot's row is the number of slots before it in the order of experts and places. `keys` has the expert of each
/// slot, or p.experts for none; `scratch` has room for kPlanNumbers. The whole block together.
__device__ void plan_slots(const Plan& p, const int (&keys)[kFewSlots], int* scratch) {
  int* const place = scratch;            // a slot's place within its expert
  int* const first = scratch + p.slots;  // row of an expert; its number of slots before that
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  __syncthreads();
  for (int e = thread / kWarp; e <= p.experts; e += threads / kWarp) {
    int count = 0;
#pragma unroll 4
    for (int base = 0; base < p.slots; base += kWarp) {
      const int slot = base + lane();
      const bool its = slot < p.slots && keys[slot] == e;
      const unsigned mask = __ballot_sync(0xffffffffu, its);
      if (its) place[slot] = count + __popc(mask & ((1u << lane()) - 1));
      count += __popc(mask);
    }
    if (lane() == 0) first[e] = count;
  }
  __syncthreads();
  if (thread < kWarp) {
    int before = 0;
    for (int base = 0; base <= p.experts; base += kWarp) {
      const int e = base + lane(), mine = e <= p.experts ? first[e] : 0;
      int sum = mine;  // inclusive, over the lanes
#pragma unroll
      for (int apart = 1; apart < kWarp; apart *= 2) {
        const int below = __shfl_up_sync(0xffffffffu, sum, apart);
        if (lane() >= apart) sum += below;
      }
      if (e <= p.experts) p.offsets[e] = first[e] = before + sum - mine;
      before += __shfl_sync(0xffffffffu, sum, kWarp - 1);
    }
  }
  __syncthreads();
  for (int slot = thread; slot < p.slots; slot += threads) {
    const int key = keys[slot], row = first[key] + place[slot];
    const bool none = key == p.experts;
    if (row < p.rows) {
      p.row_slot[row] = none ? -1 : slot;
      p.row_token[row] = none ? 0 : slot / p.count;
    }
    p.slot_row[slot / p.count * p.slot_step + slot % p.count] = none ? -1 : row;
  }
}

__global__ void __launch_bounds__(kThreads) plan_kernel(Plan p) {
  __shared__ int keys[kFewSlots], scratch[kPlanNumbers];
  let_next_start();
  wait_for_previous();
  for (int slot = static_cast<int>(threadIdx.x); slot < p.slots; slot += kThreads) {
    const int id = p.ids[slot / p.count * p.id_step + slot % p.count];
    keys[slot] = key_of(id, p.first, p.experts);
  }
  plan_slots(p, keys, scratch);
}

struct Routing {
  float* scores;  ///< the logits at first
  int64_t score_step;
  float* log_sum;  ///< null: not wanted
  Scoring scoring;
  ChoiceRule rule;
  const int* group;
  int* ids;
  int64_t id_step;
  GateForm form;
  float scale;
  float* gates;
  int64_t gate_step;
  int tokens;
  Plan plan;
  const int* arrived;  ///< blocks that made the logits
  int arrivals;        ///< so many did; 0: it is known when all earlier kernels have ended
  int* ready;          ///< becomes 1; null: nobody waits for it alone
  int* done;           ///< blocks of this kernel whose tokens have chosen, 0 at first; null: there is one block
};

/// A warp takes a token at a time as far as its gates, in shared memory; then the block plans the rows, of several
/// blocks the last one. Of so many experts that scores have room for fewer warps, the others take no token.
__global__ void __launch_bounds__(kThreads) route_kernel(const __grid_constant__ Routing r) {
  constexpr int kScores = 8192, kMostWarps = kThreads / kWarp;
  static_assert(kScores >= kMostExperts && kScores >= kPlanNumbers);
  __shared__ int keys[kFewSlots], all_ids[kMostWarps][kMostChosen];
  __shared__ float all_scores[kScores];
  let_next_start();
  if (r.arrivals > 0) {
    await_arrivals(r.arrived, r.arrivals);
  } else {
    wait_for_previous();
  }
  const int warp = static_cast<int>(threadIdx.x) / kWarp, experts = r.rule.experts, count = r.rule.count;
  const int warps = min(static_cast<int>(blockDim.x) / kWarp, kScores / experts);
  float* const score = all_scores + warp * experts;
  int* const id = all_ids[warp];
  const int blocks = static_cast<int>(gridDim.x);
  for (int token = warp * blocks + static_cast<int>(blockIdx.x); warp < warps && token < r.tokens;
       token += warps * blocks) {
    float* const logits = r.scores + token * r.score_step;
    const bool padding = r.group[token] < 0;
    for (int e = lane(); e < experts; e += kWarp) score[e] = logits[e];
    __syncwarp();
    score_row(score, score, r.scoring, r.log_sum == nullptr ? nullptr : r.log_sum + token, experts);
    __syncwarp();
    choose_row(r.rule, score, padding, token, id);
    __syncwarp();
    gate_row(score, id, r.form, r.scale, r.gates + token * r.gate_step, count);
    for (int e = lane(); e < experts; e += kWarp) logits[e] = score[e];
    for (int k = lane(); k < count; k += kWarp) {
      r.ids[token * r.id_step + k] = id[k];
      keys[token * count + k] = id[k] < 0 ? experts : id[k];
    }
    __syncwarp();
  }
  if (r.done != nullptr) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(r.done, 1) == static_cast<int>(gridDim.x) - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int slot = static_cast<int>(threadIdx.x); slot < r.plan.slots; slot += static_cast<int>(blockDim.x)) {
      const int chosen = __ldcg(r.ids + slot / count * r.id_step + slot % count);
      keys[slot] = chosen < 0 ? experts : chosen;
    }
  }
  plan_slots(r.plan, keys, reinterpret_cast<int*>(all_scores));  // it waits until nobody needs the scores
  if (r.ready != nullptr) arrive(r.ready);
  if (r.arrivals > 0) wait_for_previous();
}

}  // namespace

bool few_slots_plan(Context& context, const RoutePlan& op) {
  if (op.ids.elements() == 0 || op.ids.elements() > kFewSlots || op.offsets.size(0) - 1 > kMostExperts) return false;
  launch_early(context, plan_kernel, dim3(1), dim3(kThreads), 0, plan_of(op));
  return true;
}

bool suits_few_tokens(const RouteTokens& op) {
  const int64_t tokens = op.choice.ids.size(0), slots = op.choice.ids.elements();
  if (slots == 0 || slots > kFewSlots || tokens > kFewTokens) return false;
  return op.scores.scores.size(1) <= kMostExperts && op.choice.ids.size(1) <= kMostChosen;
}

bool few_tokens_logits(Context& context, const RouteTokens& op) {
  const View& scores = op.scores.scores;
  const Gemm logits{.a = op.scores.x, .b = op.scores.weight, .c = scores, .transpose_b = true};
  if (few_rows_product(context, logits)) return true;
  // As RouterScores does where it need not pad the weight.
  if (!may_use_library() || scores.size(1) % kChunk != 0) return false;
  product(context, logits);
  return true;
}

void few_tokens_choice(Context& context, const RouteTokens& op, const Handover* handover, int* done) {
  const View& scores = op.scores.scores;
  const dim3 grid = done != nullptr ? blocks(ceil_div(op.choice.ids.size(0), kTokensOfABlock)) : dim3(1);
  launch_early(context, route_kernel, grid, dim3(kThreads), 0,
               Routing{.scores = scores.as<float>(),
                       .score_step = scores.stride[0],
                       .log_sum = op.scores.log_sum ? op.scores.log_sum.as<float>() : nullptr,
                       .scoring = op.scores.scoring,
                       .rule = rule_of(op.choice),
                       .group = op.choice.group.as<const int32_t>(),
                       .ids = op.choice.ids.as<int32_t>(),
                       .id_step = op.choice.ids.stride[0],
                       .form = op.gates.form,
                       .scale = op.gates.scale,
                       .gates = op.gates.gates.as<float>(),
                       .gate_step = op.gates.gates.stride[0],
                       .tokens = static_cast<int>(op.choice.ids.size(0)),
                       .plan = plan_of(op.plan),
                       .arrived = handover != nullptr ? handover->arrived : nullptr,
                       .arrivals = handover != nullptr ? handover->arrivals : 0,
                       .ready = handover != nullptr ? handover->ready : nullptr,
                       .done = done});
}

bool few_tokens_route(Context& context, const RouteTokens& op) {
  if (!suits_few_tokens(op) || !few_tokens_logits(context, op)) return false;
  few_tokens_choice(context, op, nullptr, nullptr);
  return true;
}

}  // namespace moe::cuda
