#pragma once
/// Inference on ranks that are threads.

#include <functional>
#include <memory>

#include "infer/follower.h"
#include "infer/leader.h"
#include "tests/infer/support.h"
#include "tests/support/ranks.h"

namespace moe::test {

/// What every rank loads.
struct RankedModel {
  fs::path path;
  WeightTypes weights = DType::f32;
  std::vector<ChosenAdapter> adapters = {};
};

/// What rank 0 has.
struct Lead {
  Cpu& cpu;
  LoadedModel& loaded;
  Leader* leader;  ///< null: there is one rank

  ModelOnDevice runtime() const { return {loaded.model(), loaded.dtype(), *cpu.device, *cpu.backend, {}, leader}; }
};

using LeadWork = std::function<void(const Lead& lead)>;

/// Loads the model on ranks that divide its experts, and does `work` on rank 0. One rank has the whole model, and no
/// leader. `wrap`, if given, changes a rank's communicator. Returns what each rank threw.
inline std::vector<std::exception_ptr> try_to_lead(
    int ranks, const RankedModel& model, const LeadWork& work,
    const std::function<std::unique_ptr<Communicator>(Communicator&)>& wrap = {}) {
  return try_on_ranks(ranks, [&](Communicator& given) {
    const std::unique_ptr<Communicator> wrapped = wrap ? wrap(given) : nullptr;
    Communicator& communicator = wrapped ? *wrapped : given;
    Cpu cpu(1);
    const ExpertRanks group = ranks > 1 ? ExpertRanks{&communicator, communicator.everyone()} : ExpertRanks{};
    LoadedModel loaded(model.path, model.weights, *cpu.device, {}, model.adapters, {}, group);
    if (communicator.rank() > 0) return follow(communicator, loaded, *cpu.device, *cpu.backend);
    if (ranks == 1) return work({cpu, loaded, nullptr});
    Leader leader(communicator);
    work({cpu, loaded, &leader});
    leader.end();
  });
}

inline void lead(int ranks, const RankedModel& model, const LeadWork& work) {
  rethrow_first(try_to_lead(ranks, model, work));
}

}  // namespace moe::test
