#include "plan/layout_plan.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "train/settle.h"

namespace moe {
namespace {

/// The part of the rate of a large product that a whole step reaches with very large microbatches: an H200 (800
/// TFLOP/s) made 239,797 tokens/s of DeepSeekMoE 2B and 153,697 of four layers of 16B (docs/performance.md), which are
/// 0.67 and 0.84 of it.
constexpr double kStepRate = 0.75;
/// Of one collective, whatever it sends.
constexpr double kCallSeconds = 40e-6;
/// An update of AdamW reads a gradient, two moments and a master, and writes all but the gradient and the weight.
constexpr double kUpdateBytes = 30;

double number(int64_t value) { return static_cast<double>(value); }

/// What each of `ranks` sends of `bytes` in a reduce-scatter, or in the all-gather that gives them to all.
double ring(int64_t ranks, double bytes) { return bytes * number(ranks - 1) / number(ranks); }

/// Ranks first, first + stride, ... that share a collective.
struct Group {
  int64_t first = 0, stride = 1, count = 1;
};

bool on_one_machine(const Card& card, const Group& group) {
  return group.first / card.of_machine == (group.first + group.stride * (group.count - 1)) / card.of_machine;
}

/// Bytes a second that each rank of a collective sends. Where the group is on several machines, its ranks of one
/// machine share what leaves it, so that each needs a part of its card's network.
double rate_of(const Card& card, const Group& group) {
  if (on_one_machine(card, group)) return card.link;
  const int64_t on_machine = std::clamp<int64_t>(card.of_machine / group.stride, 1, group.count);
  return std::min(card.link, card.network * number(on_machine));
}

/// The sizes of a layer's exchange between the ranks of its experts, for one microbatch. Forward: tokens with ids and
/// gates, then outputs. Backward: gradients of outputs, then those of tokens and gates.
struct ExpertExchange {
  double others = 0;   // EP - 1
  double hidden = 0;   // bytes of the tokens' activations
  double choices = 0;  // bytes of ids and gates
  double gates = 0;    // bytes of gates, or of their gradients

  double forward_tokens() const { return others * (hidden + choices); }
  double forward_outputs() const { return others * hidden; }
  double backward_tokens() const { return others * hidden; }
  double backward_outputs() const { return others * (hidden + gates); }
  /// Kept for backward: the tokens of all ranks, their gates, and a row for each choice.
  double kept() const { return (others + 1) * (hidden + choices); }
  /// While a layer is computed: what the experts give to all tokens, or its gradient, with ids or gradients of gates;
  /// and this rank's part of the sums.
  double buffers() const { return (others + 1) * (hidden + gates) + hidden; }
};
constexpr int64_t kForwardCalls = 4, kBackwardCalls = 3;

/// The two ranks that exchange the matrix that is embedding and head, once a step (train/step.h, TiedRanks).
struct TiedMatrix {
  int64_t embedding = -1, head = -1;  // its owner in the first stage; the first rank of the last one; -1: none
  double gradient = 0, weights = 0;   // bytes
};

class Planning {
 public:
  Planning(const LayoutRun& run, const Layout& layout, int64_t rows, bool recompute, StagePlanner& stages,
           const std::vector<StageState>& states)
      : run_(run),
        layout_(layout),
        rows_(rows),
        tokens_(rows * run.step.sequence_length),
        microbatches_(run.rows_per_step / layout.stage_ranks() / rows),
        recompute_(recompute),
        layers_(layers_of(run.model, layout.pipeline)),
        stages_(stages),
        states_(states) {
    const double element = size_of(run.step.dtype);
    hidden_ = number(tokens_) * number(run.model.hidden_size) * element;
    const double chosen = run.model.moe_layers() > 0 ? number(tokens_) * number(router().slots()) : 0;
    exchange_ = {.others = number(layout.expert - 1),
                 .hidden = hidden_,
                 .choices = chosen * (sizeof(int32_t) + sizeof(float)),
                 .gates = chosen * sizeof(float)};
    const int64_t owner = states.front().embedding_owner;
    if (layout.pipeline == 1 || !run.model.tie_word_embeddings || owner < 0) return;
    const double elements = number(run.model.vocab_size) * number(run.model.hidden_size);
    tied_ = {.embedding = owner,
             .head = layout.ranks() - layout.stage_ranks(),
             .gradient = elements * sizeof(float),
             .weights = elements * element};
  }

  LayoutPlan plan() {
    LayoutPlan plan{.layout = layout_,
                    .rows = rows_,
                    .recompute = recompute_,
                    .microbatches = microbatches_,
                    .memory = {},
                    .wire = {},
                    .time = time(),
                    .tokens_per_second = 0,
                    .fits = true};
    for (int64_t rank = 0; rank < layout_.ranks(); ++rank) {
      plan.memory.push_back(memory(rank));
      plan.wire.push_back(wire(rank));
      plan.fits = plan.fits && plan.memory.back().total() <= run_.card.memory;
    }
    plan.tokens_per_second =
        number(run_.rows_per_step) * number(run_.step.sequence_length) / std::max(plan.time.total(), 1e-30);
    return plan;
  }

 private:
  RouterConfig router() const { return run_.model.router(); }
  const StageState& state(int64_t stage) const { return states_[static_cast<size_t>(stage)]; }
  bool last(int64_t stage) const { return stage + 1 == layout_.pipeline; }
  int64_t forwards() const { return recompute_ ? 2 : 1; }
  double steps_of_gradients() const { return run_.sharding == Sharding::optimizer ? 1 : number(microbatches_); }
  double gathers_of_weights() const { return run_.sharding == Sharding::weights ? 2 * number(microbatches_) : 1; }

  const StageLayers& layers(int64_t stage) const { return layers_[static_cast<size_t>(stage)]; }

  static std::vector<StageLayers> layers_of(const ModelConfig& model, int64_t stages) {
    std::vector<StageLayers> all;
    for (const LayerRange& range : stage_layers(model.num_hidden_layers, stages)) {
      StageLayers of_stage;
      for (int64_t layer = range.begin; layer < range.end; ++layer) {
        ++(model.is_moe_layer(layer) ? of_stage.moe : of_stage.dense);
      }
      all.push_back(of_stage);
    }
    all.back().head = true;
    return all;
  }

  /// The rows of a rank's experts for its own tokens, which are as many as all ranks have on average.
  double even_rows() const { return number(router().rows(tokens_, run_.step.sequence_length)); }

  /// The most that the tokens of EP ranks can choose there. A token's choices differ.
  double most_rows() const {
    const int64_t here = run_.model.n_routed_experts / layout_.expert;
    return number(layout_.expert) * std::min(even_rows(), number(tokens_) * number(std::min(router().slots(), here)));
  }

  /// Activations that EP adds, for `rows` rows of experts: in each layer that is kept, and in the one that is computed.
  double exchange_bytes(const StageLayers& of_stage, double rows, double in_flight) const {
    const double element = size_of(run_.step.dtype), more = rows - even_rows();
    const double width = number(run_.model.moe_intermediate_size), hidden = number(run_.model.hidden_size);
    const double each = exchange_.kept() + rows * 2 * sizeof(int32_t) + more * 2 * width * element;
    const double kept = recompute_ ? 1 : number(of_stage.moe) * in_flight;
    return kept * each + more * (width + hidden) * element;
  }

  RankMemory memory(int64_t rank) {
    const LayoutPosition at = position_of(layout_, rank);
    const StageLayers& of_stage = layers(at.stage);
    const StageCost& cost = stages_.cost(of_stage);
    // 1F1B: so many microbatches are between their forward and their backward pass.
    const double in_flight = number(std::min(microbatches_, layout_.pipeline - at.stage));
    const bool exchanges = of_stage.moe > 0 && layout_.expert > 1;
    // The owner of a tied matrix adds the head's gradient when no pass needs scratch.
    const double scratch = rank == tied_.embedding ? std::max(cost.scratch, tied_.gradient) : cost.scratch;
    RankMemory memory{
        .state = state(at.stage).ranks[static_cast<size_t>(rank % layout_.stage_ranks())],
        .activations = 0,
        .even = cost.saved + scratch + (in_flight - 1) * cost.waiting,
        .buffers = (exchanges ? exchange_.buffers() : 0) + (layout_.pipeline > 1 ? 2 * hidden_ : 0),
        .batch = cost.batch + number(microbatches_ - 2) * number(tokens_) * sizeof(float)};  // losses of tokens
    memory.activations = memory.even;
    if (exchanges) {
      memory.even += exchange_bytes(of_stage, even_rows(), in_flight);
      memory.activations += exchange_bytes(of_stage, most_rows(), in_flight);
    }
    return memory;
  }

  /// Of one microbatch.
  double exchanged(const StageLayers& of_stage, bool tokens) const {
    const double forward = tokens ? exchange_.forward_tokens() : exchange_.forward_outputs();
    const double backward = tokens ? exchange_.backward_tokens() : exchange_.backward_outputs();
    return number(of_stage.moe) * (number(forwards()) * forward + backward);
  }

  RankWire wire(int64_t rank) const {
    const int64_t stage = position_of(layout_, rank).stage;
    const StageState& held = state(stage);
    const StageLayers& of_stage = layers(stage);
    const double microbatches = number(microbatches_);
    const double tied_gradient = rank == tied_.head ? tied_.gradient : 0;
    const double tied_weights = rank == tied_.embedding ? tied_.weights : 0;
    return {.gradients = steps_of_gradients() * (ring(layout_.stage_ranks(), held.shared_gradients) +
                                                 ring(layout_.data, held.expert_gradients)) +
                         tied_gradient,
            .weights = gathers_of_weights() * (ring(layout_.stage_ranks(), held.shared_weights) +
                                               ring(layout_.data, held.expert_weights)) +
                       tied_weights,
            .tokens = microbatches * exchanged(of_stage, true),
            .outputs = microbatches * exchanged(of_stage, false),
            .stages = microbatches * number((last(stage) ? 0 : 1) + (stage > 0 ? 1 : 0)) * hidden_};
  }

  /// Of the slowest of the groups that begin at first, first + step, ...
  double slowest_rate(Group group, int64_t step, int64_t groups) const {
    double rate = run_.card.link;
    for (int64_t i = 0; i < groups; ++i, group.first += step) rate = std::min(rate, rate_of(run_.card, group));
    return rate;
  }

  /// Seconds of gradients and weights at the end of a step; with more sharding, in all its microbatches.
  double reduction_seconds(int64_t stage) const {
    const StageState& held = state(stage);
    const int64_t first = stage * layout_.stage_ranks();
    const auto seconds = [&](int64_t ranks, double gradients, double weights, double rate) {
      return (steps_of_gradients() * ring(ranks, gradients) + gathers_of_weights() * ring(ranks, weights)) / rate;
    };
    return seconds(layout_.stage_ranks(), held.shared_gradients, held.shared_weights,
                   slowest_rate({first, 1, layout_.stage_ranks()}, 0, 1)) +
           seconds(layout_.data, held.expert_gradients, held.expert_weights,
                   slowest_rate({first, layout_.expert, layout_.data}, 1, layout_.expert));
  }

  /// Seconds in which the gradient of a tied matrix goes to its owner, and its weights come back.
  double tied_seconds() const {
    if (tied_.embedding < 0) return 0;
    const bool near = on_one_machine(run_.card, {tied_.embedding, tied_.head - tied_.embedding, 2});
    return (tied_.gradient + tied_.weights) / (near ? run_.card.link : run_.card.network) + 2 * kCallSeconds;
  }

  /// Seconds of what a stage sends for one microbatch.
  double communication_seconds(int64_t stage) const {
    const StageLayers& of_stage = layers(stage);
    const int64_t first = stage * layout_.stage_ranks();
    double seconds = 0;
    if (layout_.expert > 1) {
      const double rate = slowest_rate({first, 1, layout_.expert}, layout_.expert, layout_.data);
      const double calls = number(of_stage.moe * (forwards() * kForwardCalls + kBackwardCalls));
      seconds += (exchanged(of_stage, true) + exchanged(of_stage, false)) / rate + calls * kCallSeconds;
    }
    if (!last(stage)) {  // hidden states go on, and their gradients come back
      bool near = true;
      for (int64_t rank = first; rank < first + layout_.stage_ranks(); ++rank) {
        near = near && on_one_machine(run_.card, {rank, layout_.stage_ranks(), 2});
      }
      seconds += 2 * (hidden_ / (near ? run_.card.link : run_.card.network) + kCallSeconds);
    }
    return seconds;
  }

  StepSeconds time() {
    const double rate = run_.card.product * kStepRate * full_rate_share(number(tokens_), /*gpu=*/true);
    double slowest = -1, all = 0, reduction = 0, owned = 0;
    StepSeconds time;
    for (int64_t stage = 0; stage < layout_.pipeline; ++stage) {
      const double compute = stages_.cost(layers(stage)).flops / rate, communication = communication_seconds(stage);
      all += compute + communication;
      reduction = std::max(reduction, reduction_seconds(stage));
      owned = std::max(owned, state(stage).owned_most);
      if (compute + communication <= slowest) continue;
      slowest = compute + communication;
      time.compute = number(microbatches_) * compute;
      time.communication = number(microbatches_) * communication;
    }
    time.bubble = all - slowest;
    time.communication += reduction + tied_seconds();
    time.update = owned * kUpdateBytes / run_.card.read;
    return time;
  }

  const LayoutRun& run_;
  const Layout layout_;
  const int64_t rows_, tokens_, microbatches_;
  const bool recompute_;
  const std::vector<StageLayers> layers_;
  StagePlanner& stages_;
  const std::vector<StageState>& states_;
  double hidden_ = 0;  // bytes of a microbatch's activations between layers
  ExpertExchange exchange_;
  TiedMatrix tied_;
};

bool less(const RankMemory& a, const RankMemory& b) { return a.total() < b.total(); }

}  // namespace

const RankMemory& LayoutPlan::largest() const { return *std::max_element(memory.begin(), memory.end(), less); }
const RankMemory& LayoutPlan::smallest() const { return *std::min_element(memory.begin(), memory.end(), less); }

bool divides_step(const LayoutRun& run, const Layout& layout, int64_t rows) {
  return run.rows_per_step % (layout.stage_ranks() * rows) == 0;
}

LayoutPlan LayoutPlanner::plan(const Layout& layout, int64_t rows, bool recompute) {
  MOE_CHECK(divides_step(run_, layout, rows));
  if (states_.empty() || !(layout == layout_)) {
    states_ = rank_states(run_.model, run_.step, layout, run_.sharding);
    layout_ = layout;
  }
  StepConfig step = run_.step;
  step.microbatch_tokens = rows * step.sequence_length;
  step.recompute = recompute;
  StagePlanner& stages = stages_.try_emplace({rows, recompute}, run_.model, step).first->second;
  return Planning(run_, layout, rows, recompute, stages, states_).plan();
}

}  // namespace moe
