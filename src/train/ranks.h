#pragma once
/// A run that several ranks share: what it may be, and that all ranks begin the same one.

#include <string>
#include <vector>

#include "ops/communicator.h"
#include "train/run_config.h"
#include "train/settle.h"
#include "train/start_checks.h"

namespace moe {

/// An error that every rank finds at the same place, so that one of them is enough to say it.
struct SharedError : Error {
  using Error::Error;
};

/// Divides each step of the run among the ranks of `layout`: those of a stage take as many microbatches each, and the
/// routed experts and layers are divided as it says. Refuses what cannot be divided, and what several ranks cannot do.
void divide_among(RunConfig& run, const RankLayout& layout);

/// Something that must be the same on every rank.
struct StartFact {
  std::string name;   ///< "the run file"
  std::string value;  ///< if it has lines, the first that differs is told
};

/// Of a run with these data, made by `program` on a `device` of this kind ("cuda").
std::vector<StartFact> start_facts(const RunConfig& run, const TrainingData& data, bool resume,
                                   const std::string& program, const std::string& device);

/// Throws a SharedError on every rank if one of them has other facts than rank 0. `host` is the name of this machine.
void check_same_start(Communicator& communicator, const std::string& host, const std::vector<StartFact>& facts);

/// The numbers of a microbatch that rank 0 has chosen.
Microbatch chosen_by_rank_0(Communicator& communicator, const Microbatch& own);

}  // namespace moe
