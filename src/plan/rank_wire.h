#pragma once
/// What the ranks of `moe train` hold and send over sockets: each tensor's gradient is added up for its owner, which
/// updates it and sends it to all that hold it; ranks may divide the experts and the layers (train/step.h).

#include <string>

#include "comm/traffic.h"
#include "train/step.h"

namespace moe {

/// The bytes that one rank moves in a step. Agreements about signals and checkpoints, some hundred bytes, are beside
/// it.
struct StepTraffic {
  Traffic gradients;   ///< their sums
  Traffic weights;     ///< from the owners
  Traffic experts;     ///< tokens, outputs and their gradients, among the ranks that divide the experts
  Traffic stages;      ///< hidden states and their gradients
  Traffic statistics;  ///< token counts, losses, counts of experts

  Traffic all() const;
};

/// Of rank step.rank of step.ranks, in step `number`: StableMoE counts choices first in its first stage alone.
StepTraffic step_traffic(const ModelConfig& config, const StepConfig& step, int64_t number = 1);

/// A table with the memory of each rank, and what it sends and receives in a step. Of many ranks: those with the most
/// and the least state of the optimiser.
std::string rank_tables(const ModelConfig& config, const StepConfig& step);

}  // namespace moe
