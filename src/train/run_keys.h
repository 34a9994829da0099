#pragma once
/// The tables of a run file's keys other than those of the model and the losses (model/keys.h), and all keys as one
/// list.

#include "model/keys.h"
#include "train/run_config.h"

namespace moe {

std::span<const KeyRow<RunConfig>> run_keys();  ///< of no part of it
std::span<const KeyRow<DataConfig>> data_keys();
std::span<const KeyRow<Schedule>> schedule_keys();
std::span<const KeyRow<OptimizerConfig>> optimizer_keys();
std::span<const KeyRow<StepConfig>> step_keys();
std::span<const KeyRow<LoraConfig>> lora_keys();  ///< with train.parameters = "lora" alone
std::span<const KeyRow<EvaluationConfig>> evaluation_keys();
std::span<const KeyRow<CheckpointConfig>> checkpoint_keys();
std::span<const KeyRow<SampleConfig>> sample_keys();
std::span<const KeyRow<LogConfig>> log_keys();
std::span<const KeyRow<HealthConfig>> health_keys();

/// A key in the form of the documents.
struct ListedKey {
  const KeyInfo* info;
  std::string default_text;  ///< Markdown
};
/// The default of a key in Markdown. `value` is the default in its struct.
std::string shown_default(const KeyInfo& info, const SettingValue& value);
template <class S>
void list_keys(std::span<const KeyRow<S>> rows, std::vector<ListedKey>& all) {
  for (const KeyRow<S>& row : rows) {
    if (*row.key != '\0') all.push_back({&row, shown_default(row, row.get(S()))});
  }
}

/// Every key of a run file, section by section.
std::vector<ListedKey> all_run_keys();

/// Whether the value of a key of `run` can matter, given its other settings.
bool key_has_effect(std::string_view key, const RunConfig& run);

/// The keys as a table in Markdown. docs/training.md has the table of all_run_keys(), and `moe train --keys` prints it.
std::string keys_as_markdown(const std::vector<ListedKey>& keys);

}  // namespace moe
