#include "plan/rank_wire.h"

#include <algorithm>

#include "plan/rank_state.h"
#include "train/amounts.h"
#include "train/owners.h"

namespace moe {
namespace {

/// Plans of all ranks are made up to here.
constexpr int kShown = 8;

/// With a name for them: "".
struct ShownRanks {
  std::vector<int> ranks;
  const char* which;
};

ShownRanks shown_ranks(const ModelConfig& config, const StepConfig& step) {
  std::vector<int> ranks;
  if (step.ranks <= kShown) {
    for (int rank = 0; rank < step.ranks; ++rank) ranks.push_back(rank);
    return {ranks, ""};
  }
  if (step.stages > 1) {
    for (int stage = 0; stage < step.stages; ++stage) ranks.push_back(stage * step.row_ranks());
    return {ranks, ", the first rank of each stage"};
  }
  const auto states = rank_states(config, step, {.data = step.ranks}, Sharding::optimizer).front().ranks;
  const auto [least, most] = std::minmax_element(
      states.begin(), states.end(), [](const RankState& a, const RankState& b) { return a.optimizer < b.optimizer; });
  return {{static_cast<int>(most - states.begin()), static_cast<int>(least - states.begin())}, ", most and least"};
}

/// To the stage after this one and back: the hidden states of all microbatches, and their gradients. A counting pass
/// sends the hidden states a time more.
Traffic stages_traffic(const ModelConfig& config, const StepConfig& step, bool counts_first) {
  const int64_t message = bytes_of(step.dtype, step.microbatch_tokens * config.hidden_size) + kHeaderBytes;
  const int64_t forward = step.microbatches * message * (counts_first ? 2 : 1), back = step.microbatches * message;
  const int stage = step.layout().stage();
  Traffic traffic;
  if (stage > 0) traffic += {.sent = back, .received = forward};
  if (stage + 1 < step.stages) traffic += {.sent = forward, .received = back};
  return traffic;
}

std::string amount(int64_t bytes) { return bytes == 0 ? "-" : bytes_text(bytes); }

}  // namespace

Traffic StepTraffic::all() const {
  Traffic sum = gradients;
  sum += weights;
  sum += experts;
  sum += stages;
  return sum += statistics;
}

StepTraffic step_traffic(const ModelConfig& config, const StepConfig& step, int64_t number) {
  StepTraffic traffic;
  if (step.ranks == 1) return traffic;
  const DType stat = stat_dtype(step.dtype);
  const auto sum = [&](Traffic& to, DType type, int64_t elements) {
    to += all_reduce_traffic(type, elements, step.rank, step.ranks);
  };
  const RankLayout layout = step.layout();
  const std::vector<Parameter> table = held_table(config, step);
  const std::vector<int> owners = owners_of(table, layout);
  for (size_t i = 0; i < table.size(); ++i) {
    if (!table[i].trained()) continue;
    const RankGroup holders = layout.holders(table[i]);
    const int owner = holders.member(owners[i]), member = holders.member(step.rank);
    traffic.gradients += reduce_traffic(stat, table[i].trained_shape().elements(), owner, member, holders.count);
    traffic.weights +=
        broadcast_traffic(bytes_of(step.storage(table[i]), table[i].shape.elements()), owner, member, holders.count);
  }
  if (const auto tied = tied_ranks(config, step)) {
    const auto message = [&](DType type) {
      return kHeaderBytes + bytes_of(type, config.vocab_size * config.hidden_size);
    };
    if (step.rank == tied->head) {
      traffic.gradients += {.sent = message(stat)};
      traffic.weights += {.received = message(step.dtype)};
    }
    if (step.rank == tied->embedding) {
      traffic.gradients += {.received = message(stat)};
      traffic.weights += {.sent = message(step.dtype)};
    }
  }
  traffic.experts = expert_traffic(config, step, number);
  constexpr auto kNumber = static_cast<int64_t>(sizeof(double));
  const int64_t layers = config.moe_layers(), by_expert = layers * config.n_routed_experts;
  traffic.statistics += gather_traffic(2 * kNumber, step.ranks);  // tokens and their weight
  const BalanceConfig& balance = step.balance;
  const bool counts_first = balance.counts_first() && !(config.routing_row().staged && !step.mode(number, 0).learning);
  if (step.stages > 1) traffic.stages = stages_traffic(config, step, counts_first);
  if (counts_first) {
    sum(traffic.statistics, DType::i32, by_expert);
    if (balance.alpha_communication != 0) sum(traffic.statistics, DType::i32, layers * config.n_group);
    if (balance.importance != 0) sum(traffic.statistics, stat, by_expert);
    if (balance.load != 0) sum(traffic.statistics, stat, by_expert);
  }
  sum(traffic.statistics, DType::i32, by_expert);  // counts of experts
  sum(traffic.statistics, DType::i32, layers);     // dropped choices
  sum(traffic.statistics, stat, layers * kRouterLosses);
  sum(traffic.statistics, DType::f64, 1);                     // squares of the gradients
  traffic.statistics += gather_traffic(kNumber, step.ranks);  // the loss
  return traffic;
}

std::string rank_tables(const ModelConfig& config, const StepConfig& step) {
  const auto [shown, which] = shown_ranks(config, step);
  std::string text = fmt::format("ranks        memory of the steps{}\n", which);
  text += fmt::format("  {:>4}{:>12}{:>12}{:>12}{:>13}{:>12}{:>12}\n", "rank", "weights", "gradients", "optimizer",
                      "activations", "batch", "all");
  for (const int rank : shown) {
    StepConfig one = step;
    one.rank = rank;
    const MemoryPlan plan = plan_training(config, one);
    text += fmt::format("  {:>4}{:>12}{:>12}{:>12}{:>13}{:>12}{:>12}\n", rank, amount(plan.parameters),
                        amount(plan.gradients), amount(plan.optimizer), amount(plan.saved_alone() + plan.scratch),
                        amount(plan.batch), amount(plan.total()));
  }
  text += "wire         bytes that a rank sends and receives in a step\n";
  text += fmt::format("  {:>4}{:>14}{:>14}", "rank", "gradients", "weights");
  if (step.expert_ranks > 1) text += fmt::format("{:>14}", "experts");
  if (step.stages > 1) text += fmt::format("{:>14}", "stages");
  text += fmt::format("{:>14}{:>14}{:>14}\n", "statistics", "sends", "receives");
  for (const int rank : shown) {
    StepConfig one = step;
    one.rank = rank;
    const StepTraffic traffic = step_traffic(config, one);
    text += fmt::format("  {:>4}{:>14}{:>14}", rank, traffic.gradients.sent, traffic.weights.sent);
    if (step.expert_ranks > 1) text += fmt::format("{:>14}", traffic.experts.sent);
    if (step.stages > 1) text += fmt::format("{:>14}", traffic.stages.sent);
    text += fmt::format("{:>14}{:>14}{:>14}\n", traffic.statistics.sent, traffic.all().sent, traffic.all().received);
  }
  return text;
}

}  // namespace moe
