#include "comm/launch.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace moe {
namespace {

using Variable = std::function<const char*(const char*)>;

/// PyTorch's port where none is given.
constexpr int kPort = 29500;
constexpr int kMostRanks = 4096;

/// The names of one launcher's variables.
struct Names {
  const char *rank, *size, *here, *number_here;
};

constexpr Names kLaunchers[] = {
    {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    // srun's alone: a script of sbatch has SLURM_PROCID and SLURM_NTASKS too, and is one process.
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID"},
};

/// The number at the beginning of a variable: SLURM writes "4(x2)" for two machines with four each.
int number(const Variable& variable, const char* name, int least, int most) {
  const char* const text = variable(name);
  int value = 0;
  const char* const end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  const bool whole = rest == end || *rest == '(' || *rest == ',';
  if (error != std::errc() || !whole || value < least || value > most) {
    fail("{} is {:?}, expected a number from {} to {}; unset it, or start the ranks with a launcher", name, text, least,
         most);
  }
  return value;
}

}  // namespace

std::optional<Launch> launch_from(const Variable& variable) {
  for (const Names& names : kLaunchers) {
    if (variable(names.rank) == nullptr || variable(names.size) == nullptr) continue;
    const int size = number(variable, names.size, 1, kMostRanks);
    const int rank = number(variable, names.rank, 0, size - 1);
    if (size == 1) return std::nullopt;
    Launch launch;
    launch.set = names.size;
    RankPlace& place = launch.place;
    place.size = size;
    place.rank = rank;
    const bool known = variable(names.here) != nullptr;
    launch.ranks_here = known ? number(variable, names.here, 1, place.size) : 1;
    launch.number_here = variable(names.number_here) != nullptr
                             ? number(variable, names.number_here, 0, launch.ranks_here - 1)
                             : rank % launch.ranks_here;
    const char* const address = variable("MASTER_ADDR");
    if (address == nullptr && launch.ranks_here != place.size) {
      fail(
          "{} is {} and {} of them are on this machine, but MASTER_ADDR is not set; set it to the name of rank 0's "
          "machine",
          names.size, place.size, known ? std::to_string(launch.ranks_here) : "an unknown number");
    }
    if (address != nullptr) place.address = address;
    place.port = variable("MASTER_PORT") != nullptr ? number(variable, "MASTER_PORT", 1, 65535) : kPort;
    // torchrun itself then listens at MASTER_PORT.
    const char* const store = variable("TORCHELASTIC_USE_AGENT_STORE");
    if (store != nullptr && std::strcmp(store, "True") == 0) ++place.port;
    return launch;
  }
  return std::nullopt;
}

std::optional<Launch> launch_from_environment() {
  return launch_from([](const char* name) { return std::getenv(name); });
}

}  // namespace moe
