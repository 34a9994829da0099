#include "nn/routers/registry.h"

#include "base/error.h"
#include "nn/routers/method.h"

namespace moe {
namespace {

template <GateForm form>
GateForm always(bool) {
  return form;
}

constexpr RoutingRow kRows[] = {
    {.method = RoutingMethod::topk,
     .name = "topk",
     .functions = topk_router,
     .gate_form = gate_form,
     .losses = {.alpha_expert = 0.01f},
     .score_settings = true,
     .capacity = true},
    {.method = RoutingMethod::noisy_topk,
     .name = "noisy_topk",
     .functions = noisy_topk_router,
     .gate_form = always<GateForm::softmax>,
     .losses = {.importance = 0.1f, .load = 0.1f},
     .noise = true},
    {.method = RoutingMethod::hash,
     .name = "hash",
     .functions = hash_router,
     .gate_form = always<GateForm::one>,
     .top_k = 1,
     .hash_table = true,
     .by_score = false,
     .scoring_func = false},
    {.method = RoutingMethod::expert_choice,
     .name = "expert_choice",
     .functions = expert_choice_router,
     .gate_form = always<GateForm::score>,
     .capacity = true,
     .experts_choose = true,
     .causal = false,
     .by_score = false},
    {.method = RoutingMethod::stable,
     .name = "stable",
     .functions = stable_router,
     .gate_form = always<GateForm::score>,
     .losses = {.stable_balance = 0.3f, .stable_distillation = 0.3f},
     .top_k = 1,
     .staged = true,
     .scoring_func = false},
};

constexpr bool in_order() {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (static_cast<size_t>(kRows[i].method) != i) return false;
  }
  return true;
}
static_assert(in_order(), "rows are found by the value of their method");

}  // namespace

std::span<const RoutingRow> routing_rows() { return kRows; }

const RoutingRow& routing_row(RoutingMethod method) { return kRows[static_cast<size_t>(method)]; }

const char* name(RoutingMethod method) { return routing_row(method).name; }

int64_t RouterConfig::slots() const { return routing_row(method).experts_choose ? experts : top_k; }

int64_t RouterConfig::rows(int64_t tokens, int64_t row_length) const {
  if (!routing_row(method).experts_choose || row_length == 0) return tokens * slots();
  return tokens / row_length * experts * tokens_per_expert(row_length, experts, capacity);
}

bool RouterConfig::drops() const {
  return routing_row(method).score_settings && (threshold > 0 || capacity > 0 || capacity_eval > 0);
}

}  // namespace moe
