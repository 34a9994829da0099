#pragma once
/// What a PagedModel is to compute, and its sizes.

#include <cstdint>
#include <vector>

#include "ops/sampling.h"

namespace moe {

/// Decides how much memory a PagedModel allocates.
struct PagedSizes {
  int64_t sequences = 1;        ///< rows of the page table
  int64_t pages = 1;            ///< of the cache
  int64_t pages_each = 1;       ///< the most pages of one sequence
  int64_t tokens = 1;           ///< the most tokens of a pass
  int64_t logits = 0;           ///< the most rows of logits of a pass; 0: as many as sequences
  bool scores = false;          ///< passes may score targets
  bool chosen_experts = false;  ///< passes may tell the experts that tokens chose
  bool chooses = false;         ///< passes may choose tokens on the device, and there may be steps
  bool penalties = false;       ///< and by the tokens of the sequences so far
};

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
