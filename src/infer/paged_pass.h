#pragma once
/// What a PagedModel is to compute.

#include <cstdint>
#include <vector>

#include "ops/sampling.h"

namespace moe {

/// One pass: token t is ids[t], in row sequence[t] of the page table, at positions[t]. Tokens of one sequence are next
/// to each other, in the order of their positions.
struct PagedPass {
  std::vector<int32_t> ids, sequence, positions;
  /// The tokens whose logits are wanted, in ascending order.
  std::vector<int32_t> wanted = {};
  /// One for each of them: the device chooses the next token of its sequence, and the logits stay there. Empty: the
  /// logits are wanted on the host.
  std::vector<TokenDraw> draws = {};
  /// Tokens that score a target, in ascending order, and their targets.
  std::vector<int32_t> scored = {}, targets = {};
  bool chosen_experts = false;
};

/// A sequence that takes steps: its last token, which is not in the cache, and how the next ones are drawn.
struct StepRow {
  int32_t sequence, id, position;
  TokenDraw draw;
};

/// What one step did.
struct StepChoices {
  std::vector<int32_t> ids;      ///< [rows]: what each row chose; -1: none
  std::vector<int32_t> experts;  ///< [MoE layers, rows, choices] with PagedSizes::chosen_experts, else empty; -1: none
};

}  // namespace moe
