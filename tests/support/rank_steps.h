#pragma once
/// Some steps of a tiny model on ranks that are threads, to compare with the same steps on one rank.

#include <cmath>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "tests/oracle/oracle.h"
#include "tests/support/forwarding_communicator.h"
#include "tests/support/host_device.h"
#include "tests/support/methods.h"
#include "tests/support/ranks.h"

namespace moe::test {

/// Where a rank computes: f64 on the oracle, anything else on the CPU's backend.
struct RankMachine {
  explicit RankMachine(DType dtype) : pool(2) {
    if (dtype == DType::f64) {
      device = std::make_unique<HostDevice>();
      backend = make_oracle();
    } else {
      device = make_cpu_device();
      backend = make_cpu_backend(pool);
    }
  }
  ThreadPool pool;
  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> backend;
};

/// What one rank has after its steps.
struct RankResult {
  std::vector<StepReport> reports;
  std::vector<std::vector<char>> parameters;  ///< the bytes of each, after the last step
  std::vector<std::vector<double>> exact;     ///< each parameter in f32 or f64, as numbers
  std::vector<bool> owned;                    ///< TrainingStep::owned()
  std::vector<bool> divided;                  ///< parameters of which ranks have different experts
  std::vector<std::string> names;             ///< of the parameters
  MemoryPlan plan;
  std::vector<uint64_t> hashes;         ///< of the parameters that all ranks have, after each step
  std::vector<uint64_t> expert_hashes;  ///< of the divided ones
};

/// A communicator that begins what is aside as late as it may: in await(). With `awaits` 2 it is one await() too late.
/// Without `heeds_marks` it waits for none.
class Late final : public ForwardingCommunicator {
 public:
  Late(Communicator& inner, int awaits, bool heeds_marks = true)
      : ForwardingCommunicator(inner), awaits_(static_cast<size_t>(awaits)), heeds_marks_(heeds_marks), begun_(1) {}
  void reduce_aside(const std::vector<Rooted>& tensors) override {
    begun_.back().push_back([this, tensors] { inner_.reduce_aside(tensors); });
  }
  void broadcast_aside(const std::vector<Rooted>& tensors) override {
    begun_.back().push_back([this, tensors] { inner_.broadcast_aside(tensors); });
  }
  int64_t mark_aside() override { return static_cast<int64_t>(done_ + begun_.back().size()); }
  void await(int64_t mark) override {
    for (; heeds_marks_ && static_cast<int64_t>(done_) < mark; ++done_) {
      begun_.back().front()();
      begun_.back().erase(begun_.back().begin());
    }
  }
  void await() override {
    done_ = 0;
    if (begun_.size() == awaits_) {
      for (const auto& work : begun_.front()) work();
      begun_.pop_front();
    }
    begun_.emplace_back();
  }

 private:
  const size_t awaits_;
  const bool heeds_marks_;
  std::deque<std::vector<std::function<void()>>> begun_;  // between two calls of await()
  size_t done_ = 0;                                       // of the last one, before a mark
};

using Wrap = std::function<std::unique_ptr<Communicator>(Communicator&)>;

/// Of the parameters for which `divided` is `wanted`.
inline uint64_t hash_of(const std::vector<std::vector<char>>& parameters, const std::vector<bool>& divided,
                        bool wanted) {
  uint64_t hash = 14695981039346656037ull;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (divided[i] != wanted) continue;
    for (const char byte : parameters[i]) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ull;
  }
  return hash;
}

/// `steps` steps of `config` over `batch`, which is divided into `microbatches` microbatches; the ranks of a stage take
/// as many each. `wrap` may put something between a step and its communicator. Without `looks` nothing reads the
/// weights between two steps, and the results are those of the last one.
inline RankResult steps_of_rank(Communicator& ranks, const ModelConfig& config, StepConfig step, const Batch& batch,
                                int64_t microbatches, int64_t steps, bool looks = true) {
  step.rank = ranks.rank();
  step.ranks = ranks.size();
  MOE_CHECK(microbatches % step.row_ranks() == 0);
  step.microbatches = microbatches / step.row_ranks();
  step.microbatch_tokens = static_cast<int64_t>(batch.tokens.size()) / microbatches;
  const RankMachine machine(step.dtype);
  RankResult result;
  result.plan = plan_training(config, step);
  TrainingStep run(config, step, result.plan, *machine.device, *machine.backend, ranks);
  run.initialize(1, 0.3);
  spread_zero_parameters(run, *machine.device);
  run.parameters_from_masters();
  const int64_t rows = batch.rows / microbatches;
  for (const Parameter& parameter : run.table()) {
    result.divided.push_back(step.layout().divides(parameter));
    result.names.push_back(parameter.name);
  }
  for (int64_t number = 1; number <= steps; ++number) {
    run.accumulate([&](int64_t index) { return batch_rows(batch, index * rows, rows); }, number);
    const bool goes_on = !looks && number < steps;
    run.begin_update(number, 0.01, goes_on);
    result.reports.push_back(run.end_update());
    if (goes_on) continue;
    result.parameters.clear();
    for (const View& view : run.parameters()) {
      result.parameters.emplace_back(static_cast<const char*>(view.data), static_cast<const char*>(view.end()));
    }
    result.hashes.push_back(hash_of(result.parameters, result.divided, false));
    result.expert_hashes.push_back(hash_of(result.parameters, result.divided, true));
  }
  result.owned = run.owned();
  for (const View& view : run.parameters()) {
    const bool number = view.dtype == DType::f32 || view.dtype == DType::f64;
    result.exact.push_back(number ? download_doubles(*machine.device, view) : std::vector<double>());
  }
  return result;
}

/// Gives each rank all experts of its group in `exact`, to compare them with those of one rank.
inline void join_experts(std::vector<RankResult>& results, size_t expert_ranks) {
  for (size_t first = 0; first < results.size(); first += expert_ranks) {
    for (size_t p = 0; p < results[first].exact.size(); ++p) {
      if (!results[first].divided[p]) continue;
      std::vector<double> all;
      for (size_t rank = first; rank < first + expert_ranks; ++rank) {
        all.insert(all.end(), results[rank].exact[p].begin(), results[rank].exact[p].end());
      }
      for (size_t rank = first; rank < first + expert_ranks; ++rank) results[rank].exact[p] = all;
    }
  }
}

/// Gives each rank the parameters of all stages in `parameters`, `exact` and `names`, from ranks of the same place. A
/// matrix that is embedding and head is in two of them, which must have the same bits, and here once.
inline void join_stages(std::vector<RankResult>& results, size_t stages) {
  const size_t stage_ranks = results.size() / stages;
  for (size_t share = 0; share < stage_ranks; ++share) {
    std::vector<std::vector<double>> exact;
    std::vector<std::vector<char>> parameters;
    std::vector<std::string> names;
    for (size_t rank = share; rank < results.size(); rank += stage_ranks) {
      for (size_t i = 0; i < results[rank].names.size(); ++i) {
        const auto same = std::find(names.begin(), names.end(), results[rank].names[i]);
        if (same != names.end()) {
          MOE_CHECK(parameters[static_cast<size_t>(same - names.begin())] == results[rank].parameters[i]);
          continue;
        }
        exact.push_back(results[rank].exact[i]);
        parameters.push_back(results[rank].parameters[i]);
        names.push_back(results[rank].names[i]);
      }
    }
    for (size_t rank = share; rank < results.size(); rank += stage_ranks) {
      results[rank].exact = exact;
      results[rank].parameters = parameters;
      results[rank].names = names;
    }
  }
}

/// The same on `size` ranks, of which step.expert_ranks divide the experts and step.stages are the stages; what each
/// has, with all experts and layers in `exact`.
inline std::vector<RankResult> steps_on_ranks(int size, const ModelConfig& config, const StepConfig& step,
                                              const Batch& batch, int64_t microbatches, int64_t steps,
                                              const Wrap& wrap = {}, bool looks = true) {
  std::vector<RankResult> results(static_cast<size_t>(size));
  on_ranks(size, [&](Communicator& communicator) {
    const auto wrapped = wrap ? wrap(communicator) : nullptr;
    results[static_cast<size_t>(communicator.rank())] =
        steps_of_rank(wrapped ? *wrapped : communicator, config, step, batch, microbatches, steps, looks);
  });
  join_experts(results, static_cast<size_t>(step.expert_ranks));
  if (step.stages > 1) join_stages(results, static_cast<size_t>(step.stages));
  return results;
}

/// The largest differences of two runs, relative to the size of what is compared.
struct Difference {
  double loss = 0, router_losses = 0, norm = 0, weights = 0;
  int64_t counts = 0, dropped = 0;  ///< numbers that differ
};

inline Difference difference(const RankResult& a, const RankResult& b) {
  // Nothing is near a number that is not finite.
  const auto absolute = [](double x, double y) {
    const double size = std::fabs(x - y);
    return std::isfinite(size) ? size : HUGE_VAL;
  };
  const auto relative = [&](double x, double y) {
    const double size = absolute(x, y);
    return std::isinf(size) ? size : size / std::max({std::fabs(x), std::fabs(y), 1e-3});
  };
  Difference most;
  for (size_t step = 0; step < a.reports.size(); ++step) {
    const StepReport &x = a.reports[step], &y = b.reports[step];
    most.loss = std::max(most.loss, relative(x.loss, y.loss));
    most.norm = std::max(most.norm, relative(x.gradient_norm, y.gradient_norm));
    for (size_t i = 0; i < x.losses.size(); ++i) {
      most.router_losses = std::max(most.router_losses, relative(x.losses[i], y.losses[i]));
    }
    for (size_t i = 0; i < x.counts.size(); ++i) most.counts += x.counts[i] != y.counts[i];
    for (size_t i = 0; i < x.dropped.size(); ++i) most.dropped += x.dropped[i] != y.dropped[i];
  }
  MOE_CHECK(a.names == b.names);
  for (size_t p = 0; p < a.exact.size(); ++p) {
    MOE_CHECK(a.exact[p].size() == b.exact[p].size());
    for (size_t i = 0; i < a.exact[p].size(); ++i) {
      most.weights = std::max(most.weights, absolute(a.exact[p][i], b.exact[p][i]));
    }
  }
  return most;
}

}  // namespace moe::test
