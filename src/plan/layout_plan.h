#pragma once
/// The plan of a training run on several ranks: memory, bytes on the wire and time of a step, by layout
/// (docs/parallelism.md).

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plan/rank_state.h"
#include "plan/stage_cost.h"

namespace moe {

/// Of a card and of what connects cards. Rates are in bytes and FLOP per second, of one card and one direction.
struct Card {
  std::string name;
  double memory = 0;       ///< bytes
  double product = 0;      ///< of one large product
  double read = 0;         ///< of its memory
  double link = 0;         ///< to the cards of its machine
  double network = 0;      ///< to other machines
  int64_t of_machine = 8;  ///< cards of one machine
};

/// A run whose layout is to be planned.
struct LayoutRun {
  ModelConfig model;
  StepConfig step;  ///< types, length and optimiser
  int64_t rows_per_step = 0;
  Sharding sharding = Sharding::optimizer;
  Card card;
};

/// Bytes on one rank. What is not allocated at the same time is counted as if it were.
struct RankMemory {
  RankState state;
  double activations = 0;  ///< saved ones and scratch, for the most rows that its experts can get
  double even = 0;         ///< of them, for as many rows as all ranks have on average
  double buffers = 0;      ///< of collectives
  double batch = 0;

  double total() const { return state.weights + state.gradients + state.optimizer + activations + buffers + batch; }
};

/// Bytes that one rank sends in a step, by what is sent. Collectives of n ranks with B bytes send (n - 1) / n B from
/// each, on average.
struct RankWire {
  double gradients = 0;  ///< reduce-scatter to the owners; the last stage's of a head that is the embedding
  double weights = 0;    ///< all-gather from the owners; those of such a head from the first stage
  double tokens = 0;     ///< all-gather of tokens and their choices to the ranks of experts
  double outputs = 0;    ///< reduce-scatter of what the experts give
  double stages = 0;     ///< point to point, between stages

  double total() const { return gradients + weights + tokens + outputs + stages; }
};

/// Seconds of a step. Nothing is taken to be hidden: products wait for bytes, and bytes for products.
struct StepSeconds {
  double compute = 0;        ///< of the stage that takes longest, in all its microbatches
  double communication = 0;  ///< of that stage, with gradients and weights
  double bubble = 0;         ///< in which that stage waits for the others
  double update = 0;         ///< of the optimiser

  double total() const { return compute + communication + bubble + update; }
};

struct LayoutPlan {
  Layout layout;
  int64_t rows = 0;  ///< of a microbatch
  bool recompute = false;
  int64_t microbatches = 0;        ///< of one rank
  std::vector<RankMemory> memory;  ///< by rank
  std::vector<RankWire> wire;
  StepSeconds time;
  double tokens_per_second = 0;  ///< of all ranks
  bool fits = false;             ///< the memory of each rank, on the card

  const RankMemory& largest() const;
  const RankMemory& smallest() const;
};

/// True if the rows of a step divide into whole microbatches of `rows` for every rank of a stage.
bool divides_step(const LayoutRun& run, const Layout& layout, int64_t rows);

/// Plans layouts of one run. Allocates none of the memory that it counts, for any size. What several layouts need is
/// computed once. For one thread at a time.
class LayoutPlanner {
 public:
  explicit LayoutPlanner(LayoutRun run) : run_(std::move(run)) {}

  const LayoutRun& run() const { return run_; }
  /// The layout must divide the model, and with microbatches of `rows` rows the step.
  LayoutPlan plan(const Layout& layout, int64_t rows, bool recompute);

 private:
  LayoutRun run_;
  std::map<std::pair<int64_t, bool>, StagePlanner> stages_;  // by rows of a microbatch, and recompute
  Layout layout_;                                            // that states_ is of
  std::vector<StageState> states_;
};

}  // namespace moe
