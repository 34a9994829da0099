#pragma once
/// Small studies and results for tests.

#include <string>
#include <vector>

#include "study/read_study.h"
#include "study/table.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {

/// The sections of a run file, as short as possible.
inline const char* const kRunSections = R"(
[data]
sequence_length = 8
rows_per_step = 2
[model]
vocab_size = 50
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
n_routed_experts = 8
num_experts_per_tok = 2
moe_intermediate_size = 8
max_position_embeddings = 16
[train]
steps = 4
)";

inline const char* const kStudySection = R"([study]
title = "Two systems"
seeds = [3, 4]
systems = ["few: model.num_experts_per_tok=1", "many: model.n_routed_experts=16 optimizer.learning_rate=2e-3"]
)";

/// The study of a file with this [study], in a folder of its own.
inline Study study_of(const TemporaryFolder& folder, const std::string& section = kStudySection,
                      std::vector<std::string> set = {}) {
  const fs::path file = folder / "some.toml";
  write_file(file, section + kRunSections);
  set.insert(set.begin(), "study.dir=" + (folder / "study").string());
  return read_study(file, set, [](const std::string&) { return int64_t{50}; });
}

/// A possible result of a job: 3 evaluations, at 10, 20 and 30 of 30 steps, with a second and 5 causal FLOPs each.
inline JobResult result_of(const std::string& system, int64_t seed, double loss) {
  return {.system = system,
          .seed = seed,
          .loss = loss,
          .loss_error = 0.03,
          .bits_per_byte = loss / 2,
          .total_params = 3000000,
          .activated_params = 2000000,
          .flops_per_sequence = 7,
          .flops_per_sequence_causal = 5,
          .sequences_per_step = 1,
          .memory_bytes = int64_t{3} << 30,
          .steps = 30,
          .seconds = 30,
          .tokens_per_second = 100,
          .max_over_mean_load = 1.5,
          .dropped = 0,
          .curve = {{10, loss + 2, 10}, {20, loss + 1, 20}, {30, loss, 30}},
          .switches = {},
          .settings = ""};
}

inline SystemSummary summary_of(const std::string& name, const std::vector<JobResult>& results) {
  Study study;
  study.systems = {name};
  return summarize(study, results).at(0);
}

}  // namespace moe::test
