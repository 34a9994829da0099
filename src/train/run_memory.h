#pragma once
/// The memory of a whole run, part by part: its steps, evaluation, samples, checkpoints, data and the program itself.

#include "data/shards.h"
#include "infer/generate.h"
#include "ops/device.h"
#include "train/run_config.h"

namespace moe {

/// The facts about a run's data that are known before it begins. A run without data has the defaults.
struct RunFacts {
  int64_t documents = 0, tokens = 0;  ///< of data.train
  int64_t valid_documents = 0;        ///< number of evaluated documents
  int64_t valid_rows = 0;             ///< number of rows that they are packed into; 0: nothing is evaluated
  int64_t valid_domains = 1;
  std::vector<Prompt> prompts = {};  ///< of the samples
};

/// The facts of existing datasets (null: missing), with the prompts as ids. If data.valid is given and `valid` is null,
/// it assumes an evaluation of as many rows as are computed together. Without a tokenizer, it assumes one token for
/// each byte of a prompt.
RunFacts facts_of(const RunConfig& run, const Dataset* train, const Dataset* valid, const Tokenizer* tokenizer);

/// Where a run computes, and how much memory it can use there.
struct Place {
  DeviceInfo device = {};
  int64_t host_bytes = 0;     ///< all host memory that the process can use; 0: not known
  int64_t process_bytes = 0;  ///< the part of it that the process uses now
};

/// The current state, before the run's memory is allocated.
Place place_of(const Device& device);

/// All in bytes. The parts of `device_total()` are on the device, where memory is allocated once; the others are on the
/// host. If the device's memory is the host's, both totals contain all parts.
struct RunMemory {
  MemoryPlan step = {};
  int64_t workspace = 0;   ///< of the backend
  int64_t evaluation = 0;  ///< held from beginning to end
  int64_t samples = 0;     ///< while they are written

  int64_t process = 0;    ///< the program, and what it had read before the plan was made
  int64_t tables = 0;     ///< the tables of which document is in which row
  int64_t batches = 0;    ///< tokens on their way to the device, and results from it
  int64_t next_step = 0;  ///< the batches of the step after this one, which are made while a GPU computes
  int64_t saving = 0;     ///< the copy of a tensor that is drawn or written
  bool device_is_host = false;

  int64_t device_total() const;
  int64_t host_total() const;
};

/// Plans everything that `run` will hold. Allocates nothing, for any size.
RunMemory plan_run(const RunConfig& run, const RunFacts& facts, const Place& place);

/// The rank that needs most memory on its device. The ranks of a stage need nearly as much, so it is the first one of a
/// stage; of one stage, run.step.rank.
int fullest_rank(const RunConfig& run, const RunFacts& facts, const Place& place);

/// True if it fits: the memory of device and host, if known, and the backend's room to sort choices of experts.
bool fits(const RunConfig& run, const RunFacts& facts, const RunMemory& memory, const Place& place);

/// The number of rows that are evaluated together; 0 if nothing is evaluated.
int64_t evaluated_rows(const RunConfig& run, const RunFacts& facts);

}  // namespace moe
