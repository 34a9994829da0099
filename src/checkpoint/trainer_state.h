#pragma once
/// trainer_state.json: the state of a run at a checkpoint.

#include "base/file.h"

namespace moe {

struct TrainerState {
  int64_t step = 0;  ///< steps done
  uint64_t seed = 0;
  int64_t rows_per_step = 0;  ///< with seed, sequence_length and step: the data cursor (data/batch_source.h)
  int64_t sequence_length = 0;
  uint64_t dataset_fingerprint = 0;  ///< of data.train: tokenizer, documents, tokens, bytes
  int64_t log_bytes = 0;             ///< length of log.jsonl when the checkpoint was written
  int64_t eval_bytes = 0;            ///< length of eval.jsonl
  int64_t second_stage = 0;          ///< the first step of StableMoE's second stage; 0: there is none
  uint64_t base_fingerprint = 0;     ///< of the weights that adapters train beside; 0: there are none, or an older file
  bool operator==(const TrainerState&) const = default;
};

constexpr int64_t kTrainerStateVersion = 1;

void save_trainer_state(const fs::path& folder, const TrainerState& state);
/// Refuses another format version, and names both. Refuses negative numbers.
TrainerState load_trainer_state(const fs::path& folder);

}  // namespace moe
