#pragma once
/// Which rank this process is, as what has started it says.

#include <functional>
#include <optional>
#include <string>

#include "comm/rendezvous.h"

namespace moe {

/// A process among those of a launcher.
struct Launch {
  RankPlace place = {};
  int ranks_here = 1;    ///< on this machine
  int number_here = 0;   ///< of this process among them, from 0
  std::string set = {};  ///< the variable that gave the number of ranks: "WORLD_SIZE"
};

/// Reads, in this order, torchrun's variables (RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, LOCAL_RANK), those of Open MPI's
/// mpirun (OMPI_COMM_WORLD_...) and of SLURM's srun (SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_STEP_TASKS_PER_NODE,
/// SLURM_LOCALID), with MASTER_ADDR and MASTER_PORT. Nothing if there are none, or if they give one rank. Refuses
/// values that make no sense.
std::optional<Launch> launch_from(const std::function<const char*(const char*)>& variable);

/// From the process's environment.
std::optional<Launch> launch_from_environment();

}  // namespace moe
