// One row per key: src/model/key_rows.h says how to add one.

#include "model/keys.h"

namespace moe {
namespace {

using Balance = BalanceConfig;

constexpr double kMostWeight = 1e6;

constexpr KeyRow<Balance> kRows[] = {
    row<Balance>("balance.alpha_expert", number<&Balance::alpha_expert>(0, kMostWeight),
                 {.doc = "alpha1, eq. (12); 0: not computed",
                  .also = "aux_loss_alpha aux_loss aux_loss_coef router_aux_loss_coef alpha load_balance",
                  .shown_default = "0.01 with `topk`, 1e-4 with `noaux_tc`, else 0",
                  .needs = &kNeedsTopk,
                  .told = Told::always}),
    row<Balance>("balance.alpha_device", number<&Balance::alpha_device>(0, kMostWeight),
                 {.doc = "alpha2, eq. (15); 0: not computed", .needs = &kNeedsTopk, .told = Told::always}),
    row<Balance>("balance.devices", integer<&Balance::devices>(1, kMostParts),
                 {.doc = "D, groups of neighbouring experts; divides E",
                  .shown_default = "1; `model.n_group` with `group_limited_greedy`",
                  .needs = &kNeedsExperts,
                  .told = Told::always}),
    row<Balance>("balance.scope",
                 word<&Balance::scope, BalanceScope::sequence, BalanceScope::microbatch, BalanceScope::step>(),
                 {.doc = "the tokens that a loss ranges over: [routing.md](routing.md)", .told = Told::always}),
    row<Balance>("balance.alpha_communication", number<&Balance::alpha_communication>(0, kMostWeight),
                 {.doc = "alpha3, over the groups of `group_limited_greedy`", .needs = &kNeedsLimitedGroups}),
    row<Balance>("balance.first_choice", boolean<&Balance::first_choice>(),
                 {.doc = "f counts first choices alone", .needs = &kNeedsTopk}),
    row<Balance>("balance.z_loss", number<&Balance::z_loss>(0, kMostWeight),
                 {.doc = "weight of the z-loss", .also = "router_z_loss z_loss_coef", .needs = &kNeedsTopk}),
    row<Balance>("balance.importance", number<&Balance::importance>(0, kMostWeight),
                 {.doc = "weight of the loss of unequal gates",
                  .shown_default = "0.1 with `noisy_topk`, else 0",
                  .needs = &kNeedsNoisyTopk}),
    row<Balance>("balance.load", number<&Balance::load>(0, kMostWeight),
                 {.doc = "weight of the loss of unequal chances to be chosen",
                  .shown_default = "0.1 with `noisy_topk`, else 0",
                  .needs = &kNeedsNoisyTopk}),
    row<Balance>("balance.stable_balance", number<&Balance::stable_balance>(0, kMostWeight),
                 {.doc = "weight of StableMoE's balance loss",
                  .shown_default = "0.3 with `stable`, else 0",
                  .needs = &kNeedsStable}),
    row<Balance>("balance.stable_distillation", number<&Balance::stable_distillation>(0, kMostWeight),
                 {.doc = "weight of what the light router learns from",
                  .shown_default = "0.3 with `stable`, else 0",
                  .needs = &kNeedsStable}),
    row<Balance>("balance.bias_rate", number<&Balance::bias_rate>(0, kMostWeight),
                 {.doc = "u: what a step moves a bias by",
                  .shown_default = "0.001 with `noaux_tc`, else 0",
                  .needs = &kNeedsBias,
                  .told = Told::where_needed}),
};

}  // namespace

std::span<const KeyRow<BalanceConfig>> balance_keys() { return kRows; }

}  // namespace moe
