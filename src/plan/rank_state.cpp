#include "plan/rank_state.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace moe {
namespace {

/// A tensor as a rank of its stage holds it.
struct HeldTensor {
  int64_t elements = 0;
  double weight_bytes = 0;
  double state_bytes = 0;  // of the optimiser, for all elements
  bool trained = false;
  bool divided = false;  // over EP
  bool embedding = false;
  bool tied_head = false;  // the embedding in the last of several stages: the first stage updates it
  std::string unit;        // what is gathered together: a layer, or a tensor outside the layers

  double gradient_bytes() const { return trained ? sizeof(float) * static_cast<double>(elements) : 0; }
};

HeldTensor held(const Parameter& parameter, const StepConfig& step, const Layout& layout) {
  const int64_t all = parameter.shape.elements();
  HeldTensor tensor;
  tensor.divided = parameter.shard_axis == 0;
  tensor.embedding = parameter.role == ParameterRole::embedding;
  tensor.elements = tensor.divided ? all / layout.expert : all;
  tensor.weight_bytes = static_cast<double>(bytes_of(step.storage(parameter), tensor.elements));
  tensor.trained = parameter.trained();
  if (tensor.trained) {
    const size_t slots = find_optimizer(step.optimizer.kind)->rule_of(parameter).slots.size();
    const size_t numbers = slots + (needs_master(step.dtype) ? 1 : 0);
    tensor.state_bytes = static_cast<double>(numbers * sizeof(float)) * static_cast<double>(tensor.elements);
  }
  tensor.unit = parameter.layer >= 0 ? std::to_string(parameter.layer) : parameter.name;
  return tensor;
}

/// The tensors of each stage, in the order of the table.
std::vector<std::vector<HeldTensor>> by_stage(const ModelConfig& config, const StepConfig& step, const Layout& layout) {
  const std::vector<LayerRange> ranges = stage_layers(config.num_hidden_layers, layout.pipeline);
  std::vector<std::vector<HeldTensor>> stages(ranges.size());
  for (const Parameter& parameter : training_table(config, step)) {
    size_t stage = parameter.role == ParameterRole::embedding ? 0 : ranges.size() - 1;
    if (parameter.layer >= 0) {
      const auto holds = [&](const LayerRange& range) { return parameter.layer < range.end; };
      stage = static_cast<size_t>(std::find_if(ranges.begin(), ranges.end(), holds) - ranges.begin());
    }
    stages[stage].push_back(held(parameter, step, layout));
    if (stages.size() == 1 || !config.tie_word_embeddings || !stages[stage].back().embedding) continue;
    HeldTensor head = stages[stage].back();
    head.tied_head = true;
    stages.back().push_back(head);
  }
  return stages;
}

/// The largest layer, of what `bytes_of` says of a tensor.
template <class Bytes>
double largest_unit(const std::vector<HeldTensor>& tensors, const Bytes& bytes) {
  std::map<std::string, double> units;
  double most = 0;
  for (const HeldTensor& tensor : tensors) most = std::max(most, units[tensor.unit] += bytes(tensor));
  return most;
}

/// Which of several has the least so far; of equal ones, the first.
class Least {
 public:
  explicit Least(int64_t count) : held_(static_cast<size_t>(count), 0) {
    for (int64_t i = 0; i < count; ++i) order_.emplace(0, i);
  }
  int64_t least() const { return order_.begin()->second; }
  void add(int64_t which, int64_t amount) {
    int64_t& held = held_[static_cast<size_t>(which)];
    order_.erase({held, which});
    order_.emplace(held += amount, which);
  }

 private:
  std::vector<int64_t> held_;
  std::set<std::pair<int64_t, int64_t>> order_;
};

StageState state_of(const std::vector<HeldTensor>& tensors, const Layout& layout, Sharding sharding) {
  StageState stage;
  stage.ranks.resize(static_cast<size_t>(layout.stage_ranks()));
  RankState all;  // before anything is divided
  double untrained = 0, untrained_weights = 0;
  std::vector<const HeldTensor*> trained;
  for (const HeldTensor& tensor : tensors) {
    all.parameters += static_cast<double>(tensor.elements);
    all.weights += tensor.weight_bytes;
    all.gradients += tensor.gradient_bytes();
    if (!tensor.trained) {
      untrained += static_cast<double>(tensor.elements);
      untrained_weights += tensor.weight_bytes;
      continue;
    }
    (tensor.divided ? stage.expert_gradients : stage.shared_gradients) += tensor.gradient_bytes();
    (tensor.divided ? stage.expert_weights : stage.shared_weights) += tensor.weight_bytes;
    trained.push_back(&tensor);
  }
  std::stable_sort(trained.begin(), trained.end(),
                   [](const HeldTensor* a, const HeldTensor* b) { return a->elements > b->elements; });
  // Elements that a rank updates; those whose whole gradients it has in the end, and the bytes of their weights.
  std::vector<int64_t> owned(stage.ranks.size(), 0), kept(stage.ranks.size(), 0);
  std::vector<double> kept_weights(stage.ranks.size(), 0);
  Least ranks(layout.stage_ranks()), groups(layout.data);  // a group: ranks that together have one copy of the experts
  for (const HeldTensor* const tensor : trained) {
    if (tensor->tied_head) {
      kept[0] += tensor->elements;
      kept_weights[0] += tensor->weight_bytes;
      continue;
    }
    const int64_t group = tensor->divided ? groups.least() : ranks.least() / layout.expert;
    const int64_t first = tensor->divided ? group * layout.expert : ranks.least();
    const int64_t together = tensor->divided ? layout.expert : 1;  // each takes its part
    groups.add(group, together * tensor->elements);
    if (tensor->embedding) stage.embedding_owner = first;
    for (int64_t rank = first; rank < first + together; ++rank) {
      const auto i = static_cast<size_t>(rank);
      ranks.add(rank, tensor->elements);
      owned[i] += tensor->elements;
      kept[i] += tensor->elements;
      kept_weights[i] += tensor->weight_bytes;
      stage.ranks[i].optimizer += tensor->state_bytes;
    }
  }
  const double layer_gradients = largest_unit(tensors, [](const HeldTensor& t) { return t.gradient_bytes(); });
  const double layer_weights = largest_unit(tensors, [](const HeldTensor& t) { return t.weight_bytes; });
  for (size_t i = 0; i < stage.ranks.size(); ++i) {
    RankState& rank = stage.ranks[i];
    const auto own = static_cast<double>(kept[i]);
    stage.owned_most = std::max(stage.owned_most, static_cast<double>(owned[i]));
    rank.parameters = all.parameters;
    rank.weights = all.weights;
    rank.gradients = all.gradients;
    if (sharding != Sharding::optimizer) {
      rank.gradients = std::min(all.gradients, sizeof(float) * own + layer_gradients);
    }
    if (sharding == Sharding::weights) {
      rank.parameters = own + untrained;
      // The layer that is computed, and the next one, which is on its way.
      rank.weights = std::min(all.weights, kept_weights[i] + untrained_weights + 2 * layer_weights);
    }
  }
  return stage;
}

}  // namespace

std::vector<StageState> rank_states(const ModelConfig& config, const StepConfig& step, const Layout& layout,
                                    Sharding sharding) {
  std::vector<StageState> stages;
  for (const std::vector<HeldTensor>& tensors : by_stage(config, step, layout)) {
    stages.push_back(state_of(tensors, layout, sharding));
  }
  return stages;
}

}  // namespace moe
