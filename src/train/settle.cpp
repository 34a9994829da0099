#include "train/settle.h"

#include <algorithm>

#include "base/paths.h"
#include "formats/toml.h"

namespace moe {
namespace {

constexpr int64_t kMostTokensGpu = int64_t{64} << 10, kMostTokensCpu = int64_t{2} << 10;
/// Tokens of a microbatch with which a device reaches half of its full rate. GPU: an H200 made 136,706 tokens/s of
/// DeepSeekMoE 2B with 16K tokens in a microbatch, and 182,576 with 64K. CPU: two cores reach 51%, 80%, 87% and 88% of
/// a large product in a MoE layer with 256, 1024, 4096 and 16384 tokens (docs/performance.md). In whole steps of
/// demo.toml, laptop-night.toml and moe-100m.toml no size from 2048 to 8192 tokens was faster in all, and all were
/// within a tenth.
constexpr double kHalfRateGpu = 8192, kHalfRateCpu = 128;
/// Predictions that differ by less than this count as equal.
constexpr double kEqual = 1.02;

std::vector<int64_t> rows_to_try(const RunConfig& run, bool gpu) {
  if (run.data.microbatch_rows > 0) return {run.data.microbatch_rows};
  const int64_t most = std::max<int64_t>(1, (gpu ? kMostTokensGpu : kMostTokensCpu) / run.data.sequence_length);
  std::vector<int64_t> result;
  const int64_t of_rank = run.data.rows_per_step / run.step.row_ranks();
  for (int64_t rows = 1; rows <= std::min(most, of_rank); ++rows) {
    if (of_rank % rows == 0) result.push_back(rows);
  }
  return result;
}

struct Candidate {
  Microbatch microbatch;
  double time;
  int64_t bytes;
};

}  // namespace

double full_rate_share(double tokens, bool gpu) { return tokens / (tokens + (gpu ? kHalfRateGpu : kHalfRateCpu)); }

double predicted_time(const MemoryPlan& plan, const StepConfig& step, bool gpu) {
  // The first stage of a pipeline waits for the others at the end of a step, the last one at its beginning.
  return static_cast<double>(plan.microbatch_flops) * static_cast<double>(step.microbatches + step.stages - 1) /
         full_rate_share(static_cast<double>(step.microbatch_tokens), gpu);
}

Microbatch choose_microbatch(const RunConfig& run, const RunFacts& facts, const Place& place) {
  const bool gpu = !place.device.is_host;
  std::vector<Candidate> candidates;
  double best = 0;
  for (const int64_t rows : rows_to_try(run, gpu)) {
    for (const bool recompute : {false, true}) {
      if (!run.step.choose_recompute && recompute != run.step.recompute) continue;
      RunConfig tried = run;
      set_microbatch(tried, rows, recompute);
      tried.step.rank = fullest_rank(tried, facts, place);
      const RunMemory memory = plan_run(tried, facts, place);
      if (!fits(tried, facts, memory, place)) continue;
      const double time = predicted_time(memory.step, tried.step, gpu);
      if (candidates.empty() || time < best) best = time;
      candidates.push_back({{rows, recompute}, time, memory.device_total()});
    }
  }
  if (candidates.empty()) {
    return {.rows = std::max<int64_t>(run.data.microbatch_rows, 1),
            .recompute = run.step.choose_recompute || run.step.recompute};
  }
  std::erase_if(candidates, [&](const Candidate& candidate) { return candidate.time > kEqual * best; });
  return std::min_element(candidates.begin(), candidates.end(),
                          [](const Candidate& a, const Candidate& b) { return a.bytes < b.bytes; })
      ->microbatch;
}

void settle(RunConfig& run, const Microbatch& microbatch) {
  set_microbatch(run, microbatch.rows, microbatch.recompute);
  Settings settings;
  for (TomlEntry& entry : parse_toml(run.resolved, "settings")) settings.resolve(entry.key, std::move(entry.value));
  settings.resolve("data.microbatch_rows", run.data.microbatch_rows);
  settings.resolve("train.recompute", run.step.recompute);
  settings.resolve("eval.batch_rows", run.evaluation.batch_rows);
  run.resolved = settings.to_toml();
}

bool settle_as_kept(RunConfig& run, const fs::path& run_toml) {
  if (!path_exists(run_toml)) return false;
  int64_t rows = run.data.microbatch_rows;
  bool recompute = run.step.recompute;
  try {
    Settings kept = Settings::load(run_toml);
    if (rows == 0) rows = kept.find<int64_t>("data.microbatch_rows").value_or(0);
    if (run.step.choose_recompute) recompute = kept.require<bool>("train.recompute");
  } catch (const Error&) {  // damaged, or of a run that was not settled
    return false;
  }
  if (rows < 1 || run.data.rows_per_step % (rows * run.step.row_ranks()) != 0) return false;
  settle(run, {rows, recompute});
  return true;
}

}  // namespace moe
