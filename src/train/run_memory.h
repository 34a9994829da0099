#pragma once
/// The memory of a whole run, part by part: its steps, evaluation, samples, checkpoints, data and the program itself.

#include "data/shards.h"
#include "infer/generate.h"
#include "ops/device.h"
#include "train/run_config.h"

namespace moe {

/// What is known of a run's data before it begins. A run without data has the defaults.
struct RunFacts {
  int64_t documents = 0, tokens = 0;  ///< of data.train
  int64_t valid_documents = 0;        ///< of those that are evaluated
  int64_t valid_rows = 0;             ///< that they are packed into; 0: nothing is evaluated
  int64_t valid_domains = 1;
  std::vector<Prompt> prompts = {};  ///< of the samples
};

/// Of datasets that are there (null: not), with the prompts in ids. Where data.valid is given and `valid` is null, an
/// evaluation of as many rows as it computes together is assumed; without a tokenizer, a token for each byte of a
/// prompt.
RunFacts facts_of(const RunConfig& run, const Dataset* train, const Dataset* valid, const Tokenizer* tokenizer);

/// Where a run computes, and what it can use there.
struct Place {
  DeviceInfo device = {};
  int64_t host_bytes = 0;     ///< of host memory that the process can use in all; 0: not known
  int64_t process_bytes = 0;  ///< of it what the process has now
};

/// As it is now: before the run's memory is allocated.
Place place_of(const Device& device);

/// Bytes. Those of `device_total()` are on the device, where memory is allocated once for all; the others are the
/// host's. Where the device's memory is the host's, all are in both totals.
struct RunMemory {
  MemoryPlan step = {};
  int64_t workspace = 0;   ///< of the backend
  int64_t evaluation = 0;  ///< held from beginning to end
  int64_t samples = 0;     ///< while they are written

  int64_t process = 0;  ///< the program, and what it had read when the plan was made
  int64_t tables = 0;   ///< which document is in which row
  int64_t batches = 0;  ///< tokens on their way to the device, and what comes back
  int64_t saving = 0;   ///< the copy of a tensor that is drawn or written
  bool device_is_host = false;

  int64_t device_total() const;
  int64_t host_total() const;
};

/// Plans everything that `run` will hold. Nothing is allocated, whatever its size.
RunMemory plan_run(const RunConfig& run, const RunFacts& facts, const Place& place);

/// Whether it fits: the memory of device and host, where known, and the backend's room to sort choices of experts.
bool fits(const RunConfig& run, const RunFacts& facts, const RunMemory& memory, const Place& place);

/// The rows that are evaluated together; 0 where nothing is.
int64_t evaluated_rows(const RunConfig& run, const RunFacts& facts);

}  // namespace moe
