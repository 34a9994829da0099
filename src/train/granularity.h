#pragma once
/// Experts by their granularity (section 3.1 of the paper): N full-width experts, of which a token uses K, each split
/// into m. Parameters and FLOPs of the experts are the same for every m.

#include "formats/toml.h"
#include "model/key_rows.h"

namespace moe {

/// 0: missing.
struct FullWidth {
  int64_t granularity = 1;      ///< m
  int64_t width = 0;            ///< of an expert before it is split
  int64_t experts = 0;          ///< N
  int64_t experts_per_tok = 0;  ///< K
};

std::span<const KeyRow<FullWidth>> full_width_keys();

/// If the settings have these keys, gives model.n_routed_experts, model.num_experts_per_tok and
/// model.moe_intermediate_size the values that follow from them. A run's folder and its results hold these three keys
/// alone. K_s shared experts (model.n_shared_experts) are among the m N experts and among the m K that a token uses.
/// `shared`: K_s where the settings do not have it.
void expand_granularity(Settings& settings, int64_t shared);

}  // namespace moe
