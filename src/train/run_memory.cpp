#include "train/run_memory.h"

#include <algorithm>
#include <limits>

#include "base/free_memory.h"
#include "checkpoint/weights.h"
#include "data/batch_source.h"
#include "infer/scorer.h"
#include "ops/rank_room.h"
#include "train/samples.h"
#include "train/start_checks.h"

namespace moe {
namespace {

/// Pages of the program that are read later, the stacks of its threads, and memory that the allocator keeps.
constexpr int64_t kProgramBytes = int64_t{8} << 20;
/// Bytes of host memory per token: the fields of a Batch and of its upload (batch/batch.h, batch/token_buffers.cpp),
/// and the token's loss on its way back.
constexpr int64_t kBatchBytes = 6 * 4, kUploadBytes = 4, kReportBytes = 16, kLossBytes = 4;
/// Bytes per document and per row: pieces, their order and the beginnings of rows (data/packing.h).
constexpr int64_t kDocumentBytes = 16, kRowBytes = 16 + 8 + 8;
/// Bytes per evaluated document: also its sums, now and of the last evaluation, and its place in the sample.
constexpr int64_t kScoredBytes = 8 + 8 + 2 * 24;

int64_t rows_of(int64_t documents, int64_t tokens, int64_t length) {
  return documents == 0 ? 0 : (tokens + length - 1) / length;
}

/// The host's copy of the values of the largest parameter, which are drawn (TrainingStep::initialize) or written.
int64_t copied_bytes(const ModelConfig& model) {
  constexpr int64_t kMostDrawn = int64_t{16} << 20;
  const auto table = parameter_table(model);
  int64_t largest = 0;
  if (!model.adapters.empty()) {  // in another order of elements, with zeros between them
    constexpr int64_t kCopies = 3;
    for (const Parameter& parameter : table) {
      if (parameter.adapter != AdapterPart::none) largest = std::max(largest, parameter.shape.elements());
    }
    return kCopies * largest * static_cast<int64_t>(sizeof(float));
  }
  for (const Parameter& parameter : table) largest = std::max(largest, parameter.shape.elements());
  return std::max(saving_bytes(model, table), std::min(kMostDrawn, largest * static_cast<int64_t>(sizeof(float))));
}

bool within(int64_t bytes, int64_t available) { return available == 0 || bytes <= available; }

}  // namespace

RunFacts facts_of(const RunConfig& run, const Dataset* train, const Dataset* valid, const Tokenizer* tokenizer) {
  RunFacts facts;
  if (train != nullptr) facts.documents = train->count(), facts.tokens = train->info().tokens();
  if (valid != nullptr) {
    const EveryNth evaluated = evaluated_documents(run, *valid);
    facts.valid_documents = evaluated.count();
    facts.valid_domains = static_cast<int64_t>(evaluated.domain_names().size());
    facts.valid_rows =
        BatchSource(evaluated,
                    {.sequence_length = run.data.sequence_length, .rows_per_step = 1, .order = DataOrder::once})
            .rows_per_epoch();
  } else if (!run.data.valid.empty()) {
    facts.valid_rows = std::numeric_limits<int32_t>::max();
  }
  if (run.step.objective == Objective::dpo && train != nullptr) {  // the reference is computed as evaluations are
    facts.valid_domains = std::max(facts.valid_domains, static_cast<int64_t>(train->domain_names().size()));
    facts.valid_rows = std::max(facts.valid_rows, rows_of(facts.documents, facts.tokens, run.data.sequence_length));
  }
  if (tokenizer != nullptr) {
    facts.prompts = sample_prompts(*train, *tokenizer, run.model, run.sample);
  } else {
    for (const std::string& text : run.sample.prompts)
      facts.prompts.push_back({std::vector<int32_t>(text.size() + 1), 0});
  }
  return facts;
}

Place place_of(const Device& device) {
  return {.device = device.info(), .host_bytes = usable_host_memory(), .process_bytes = resident_bytes()};
}

int64_t RunMemory::device_total() const {
  return device_is_host ? host_total() : step.total() + workspace + evaluation + samples;
}

int64_t RunMemory::host_total() const {
  const int64_t held = process + tables;  // held from beginning to end; the other parts follow one another
  if (!device_is_host) return held + next_step + std::max(batches, saving);
  return held + step.total() + workspace + evaluation + std::max({batches, saving, samples});
}

int64_t evaluated_rows(const RunConfig& run, const RunFacts& facts) {
  return std::min(run.evaluation.batch_rows, facts.valid_rows);
}

RunMemory plan_run(const RunConfig& run, const RunFacts& facts, const Place& place) {
  const int64_t length = run.data.sequence_length;
  const int64_t step_tokens = run.data.rows_per_step * length, evaluated = evaluated_rows(run, facts) * length;
  RunMemory memory{.step = plan_training(run.model, run.step),
                   .workspace = place.device.scratch_bytes,
                   .process = place.process_bytes + kProgramBytes,
                   .saving = copied_bytes(run.model),
                   .device_is_host = place.device.is_host};
  if (!place.device.is_host && run.step.ranks > 1) memory.workspace += kRankRoomBytes + kRankFlagBytes;
  if (evaluated > 0) {
    memory.evaluation =
        Scorer::bytes(run.model, run.step.dtype, evaluated, length, ChosenIds::forgotten, facts.valid_domains);
  }
  memory.samples = generation_bytes(run.model, run.step.dtype, facts.prompts,
                                    {.max_new_tokens = run.sample.max_new_tokens}, !place.device.is_host);
  memory.batches =
      std::max(step_tokens * std::max(kBatchBytes, kReportBytes) + run.step.microbatch_tokens * kUploadBytes,
               evaluated * (kBatchBytes + kUploadBytes + kLossBytes));
  if (!place.device.is_host) memory.next_step = step_tokens * kBatchBytes;
  memory.tables = facts.documents * kDocumentBytes + rows_of(facts.documents, facts.tokens, length) * kRowBytes;
  if (evaluated > 0) {
    memory.tables += facts.valid_documents * (kDocumentBytes + kScoredBytes) +
                     (facts.valid_documents > 0 ? facts.valid_rows * kRowBytes : 0);
  }
  return memory;
}

int fullest_rank(const RunConfig& run, const RunFacts& facts, const Place& place) {
  if (run.step.stages == 1) return run.step.rank;
  int64_t most = 0;
  int fullest = 0;
  RunConfig other = run;
  for (int stage = 0; stage < run.step.stages; ++stage) {
    other.step.rank = stage * run.step.row_ranks();
    const int64_t bytes = plan_run(other, facts, place).device_total();
    if (bytes > most) most = bytes, fullest = other.step.rank;
  }
  return fullest;
}

bool fits(const RunConfig& run, const RunFacts& facts, const RunMemory& memory, const Place& place) {
  if (!within(memory.device_total(), place.device.available_bytes)) return false;
  if (!within(memory.host_total(), place.host_bytes)) return false;
  if (place.device.most_slots == 0 || run.model.moe_layers() == 0) return true;
  const int64_t rows = std::max(run.data.microbatch_rows * run.step.expert_ranks, evaluated_rows(run, facts));
  return rows * run.data.sequence_length * run.model.router().slots() <= place.device.most_slots;
}

}  // namespace moe
