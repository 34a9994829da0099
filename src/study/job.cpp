#include "study/job.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "base/interrupt.h"
#include "base/log.h"
#include "base/median.h"
#include "base/output_path.h"
#include "base/paths.h"
#include "infer/loaded_model.h"
#include "infer/switches.h"
#include "model/cost.h"
#include "train/batches.h"
#include "train/fit.h"
#include "train/length.h"
#include "train/run_folder.h"
#include "train/same_settings.h"
#include "train/settle.h"
#include "train/trainer.h"

namespace moe {
namespace {

std::vector<Json> json_lines(const fs::path& path) {
  std::vector<Json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(parse_json(line, path.string()));
  return lines;
}

/// Times, loads and dropped choices from the run's folder. Returns the seconds of training until each step.
std::vector<double> read_log(const fs::path& path, int64_t experts_per_token, JobResult& result) {
  std::vector<double> seconds_at{0}, rates;
  const std::string name = path.string();
  for (const Json& line : json_lines(path)) {
    if (line.contains("run")) continue;  // about the run, not a step
    const double rate = json_number(line, "tokens_per_second", name);
    const double tokens = json_number(line, "tokens", name);
    const Json& layers = json_array(line, "layers", name);
    rates.push_back(rate);
    seconds_at.push_back(seconds_at.back() + tokens / rate);
    result.max_over_mean_load = 0;
    double dropped = 0;
    for (const Json& layer : layers) {
      result.max_over_mean_load = std::max(result.max_over_mean_load, json_number(layer, "max_over_mean_load", name));
      dropped += json_number(layer, "dropped", name, 0);
    }
    const auto choices = tokens * static_cast<double>(static_cast<int64_t>(layers.size()) * experts_per_token);
    result.dropped = choices > 0 ? dropped / choices : 0;
  }
  result.seconds = seconds_at.back();
  result.tokens_per_second = rates.empty() ? 0 : median(std::move(rates));
  return seconds_at;
}

void read_evaluations(const fs::path& path, const std::vector<double>& seconds_at, JobResult& result) {
  for (const Json& line : json_lines(path)) {
    const std::string name = path.string();
    const int64_t step = json_int(line, "step", name);
    result.loss = json_number(line, "loss", name);
    result.loss_error = json_number(line, "loss_error", name, 0);
    result.bits_per_byte = json_number(line, "bits_per_byte", name);
    if (step < 0 || static_cast<size_t>(step) >= seconds_at.size()) {
      fail("{} has an evaluation of step {}, but the log beside it has {} steps; remove the run to train it again",
           name, step, seconds_at.size() - 1);
    }
    result.curve.push_back({.step = step, .loss = result.loss, .seconds = seconds_at[static_cast<size_t>(step)]});
  }
}

/// A switch for evaluating the trained model.
struct PlannedSwitch {
  const char* kind;
  int64_t value;
  RoutingSwitches switches;
};

/// The paper's analyses (Figures 4 and 5, section 4.5) for systems that choose experts by score, if they have enough
/// experts.
std::vector<PlannedSwitch> planned_switches(const Study& study, const ModelConfig& model) {
  std::vector<PlannedSwitch> planned;
  if (!model.routes_with(&RoutingRow::score_settings)) return planned;
  const auto plan = [&](const char* kind, int64_t value, const RoutingSwitches& switches) {
    try {
      switched(model, switches);
    } catch (const Error&) {
      return;
    }
    planned.push_back({kind, value, switches});
  };
  for (const int64_t share : study.mask_sixteenths) {
    const int64_t sixteenths = share * (model.n_shared_experts + model.n_routed_experts);
    if (sixteenths % 16 == 0) plan("mask_sixteenths", share, {.skip = sixteenths / 16});
  }
  if (!study.switches) return planned;
  for (int64_t k = std::max<int64_t>(1, (model.num_experts_per_tok - 1) / 2); k <= model.num_experts_per_tok; ++k) {
    plan("experts_per_token", k, {.experts_per_token = k});
  }
  plan("drop_shared", 1, {.drop_shared = true});
  return planned;
}

double loss_of(const LoadedModel& model, const StudyJob& job, const Dataset& valid, Device& device, Backend& backend) {
  const ModelOnDevice runtime{model.model(), model.dtype(), device, backend};
  return evaluate(runtime, EveryNth(valid, job.run.evaluation.every_nth),
                  {.sequence_length = job.run.data.sequence_length, .batch_rows = job.run.evaluation.batch_rows})
      .all.loss();
}

/// False after a signal.
bool measure_switches(const Study& study, const StudyJob& job, const Dataset& valid, Device& device, Backend& backend,
                      std::vector<SwitchPoint>& points) {
  const std::vector<PlannedSwitch> all = planned_switches(study, job.run.model);
  if (all.empty()) return InterruptGuard::signal() == 0;
  LoadedModel model(fs::path(job.run.run_dir) / "latest", job.run.step.dtype, device);
  for (const PlannedSwitch& planned : all) {
    if (InterruptGuard::signal() != 0) return false;
    log_info("{}: {} = {}", job.name, planned.kind, planned.value);
    model.set_switches(planned.switches);
    points.push_back({planned.kind, planned.value, loss_of(model, job, valid, device, backend)});
  }
  return InterruptGuard::signal() == 0;
}

/// The settings in the form that a result keeps: without the run's folder.
std::string without_folder(const std::string& settings) {
  std::istringstream text(settings);
  std::string kept;
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with("dir = ")) kept += line + "\n";
  }
  return kept;
}

/// Refuses a file whose settings mean something else than the job's.
void require_same_settings(const fs::path& path, const std::string& kept, const StudyJob& job) {
  std::string why;
  try {
    std::vector<KeyDifference> differences = differing_keys(kept, job.run);
    // What is left to the program is what it was settled to.
    std::erase_if(differences, [](const KeyDifference& difference) { return difference.here == "\"auto\""; });
    why = differences_text(differences);
  } catch (const UsageError& error) {
    why = error.what();
  }
  if (why.empty()) return;
  fail(
      "{} was made from other settings than this study's ({}); remove it, or choose another folder with --set "
      "study.dir=...",
      path.string(), why);
}

const std::string& named(const std::string& dataset) {
  if (dataset.empty()) fail_usage("a study needs data.train and data.valid, datasets that `moe data` made");
  return dataset;
}

/// What a job reads. It fits together, and to the run.
struct JobData {
  explicit JobData(const RunConfig& run)
      : train(named(run.data.train)), valid(named(run.data.valid)), tokenizer(Tokenizer::load(train.folder())) {
    check_before_start(run, {train, &valid, tokenizer});
  }
  const Dataset train, valid;
  const Tokenizer tokenizer;
};

/// Settles what the run leaves to the program, as the half-trained run in its folder has it, else by what fits here;
/// refuses a run that does not fit.
RunMemory plan_that_fits(RunConfig& run, const Dataset& train, const Dataset* valid, const Tokenizer* tokenizer,
                         const Device& device) {
  const Place place = place_of(device);
  const RunFacts facts = facts_of(run, &train, valid, tokenizer);
  if (run.chooses_microbatch() && !settle_as_kept(run, fs::path(run.run_dir) / "run.toml")) {
    settle(run, choose_microbatch(run, facts, place));
  }
  RunMemory memory = plan_run(run, facts, place);
  refuse_if_too_large(run, facts, memory, place);
  return memory;
}

}  // namespace

std::optional<double> JobResult::switched_loss(std::string_view kind, int64_t value) const {
  for (const SwitchPoint& point : switches) {
    if (point.kind == kind && point.value == value) return point.loss;
  }
  return std::nullopt;
}

Json to_json(const JobResult& result) {
  Json curve = Json::array(), switches = Json::array();
  for (const CurvePoint& point : result.curve) {
    curve.push_back({{"step", point.step}, {"loss", point.loss}, {"seconds", point.seconds}});
  }
  for (const SwitchPoint& point : result.switches) {
    switches.push_back({{"kind", point.kind}, {"value", point.value}, {"loss", point.loss}});
  }
  Json json = {{"system", result.system},
               {"seed", result.seed},
               {"loss", result.loss},
               {"loss_error", result.loss_error},
               {"bits_per_byte", result.bits_per_byte},
               {"total_params", result.total_params},
               {"activated_params", result.activated_params},
               {"flops_per_sequence", result.flops_per_sequence},
               {"flops_per_sequence_causal", result.flops_per_sequence_causal},
               {"sequences_per_step", result.sequences_per_step},
               {"memory_bytes", result.memory_bytes},
               {"steps", result.steps},
               {"seconds", result.seconds},
               {"tokens_per_second", result.tokens_per_second},
               {"max_over_mean_load", result.max_over_mean_load},
               {"dropped", result.dropped},
               {"curve", curve},
               {"switches", switches},
               {"settings", result.settings}};
  if (result.diverged > 0) json["diverged"] = result.diverged;
  return json;
}

JobResult job_result_from(const Json& json, const std::string& name) {
  JobResult result;
  result.system = json_string(json, "system", name);
  result.seed = json_int(json, "seed", name);
  result.loss = json_number(json, "loss", name);
  result.loss_error = json_number(json, "loss_error", name);
  result.bits_per_byte = json_number(json, "bits_per_byte", name);
  result.total_params = json_int(json, "total_params", name);
  result.activated_params = json_int(json, "activated_params", name);
  result.flops_per_sequence = json_int(json, "flops_per_sequence", name);
  result.flops_per_sequence_causal = json_int(json, "flops_per_sequence_causal", name);
  result.sequences_per_step = json_int(json, "sequences_per_step", name);
  result.memory_bytes = json_int(json, "memory_bytes", name);
  result.steps = json_int(json, "steps", name);
  result.seconds = json_number(json, "seconds", name);
  result.tokens_per_second = json_number(json, "tokens_per_second", name);
  result.max_over_mean_load = json_number(json, "max_over_mean_load", name);
  result.dropped = json_number(json, "dropped", name);
  for (const Json& point : json_array(json, "curve", name)) {
    result.curve.push_back({.step = json_int(point, "step", name),
                            .loss = json_number(point, "loss", name),
                            .seconds = json_number(point, "seconds", name)});
  }
  for (const Json& point : json_array(json, "switches", name)) {
    result.switches.push_back({.kind = json_string(point, "kind", name),
                               .value = json_int(point, "value", name),
                               .loss = json_number(point, "loss", name)});
  }
  result.settings = json_string(json, "settings", name);
  result.diverged = json_int(json, "diverged", name, 0);
  return result;
}

namespace {

JobResult read_result(const fs::path& path, const std::string& job) {
  try {
    return job_result_from(read_json(path), path.string());
  } catch (const Error& error) {
    fail("{}; the result is damaged: remove the file to train {} again", error.what(), job);
  }
}

}  // namespace

std::optional<JobResult> find_result(const Study& study, const StudyJob& job) {
  const fs::path path = study.result(job);
  if (!path_exists(path)) return std::nullopt;
  JobResult result = read_result(path, job.name);
  if (result.system != job.system || result.seed != job.seed) {
    fail("{} holds the result of {} with seed {}, expected {} with seed {}; remove it", path.string(), result.system,
         result.seed, job.system, job.seed);
  }
  require_same_settings(path, result.settings, job);
  if (result.diverged > 0) return result;
  for (const PlannedSwitch& planned : planned_switches(study, job.run.model)) {
    if (!result.switched_loss(planned.kind, planned.value)) {
      fail(
          "{} has no evaluation with {} = {}, which study.mask_sixteenths and study.switches ask for; remove it to "
          "train {} again",
          path.string(), planned.kind, planned.value, job.name);
    }
  }
  return result;
}

void read_documents(const Study& study, const StudyJob& job, JobResult& result) {
  const fs::path path = study.documents(job);
  if (result.diverged > 0 || !path_exists(path)) return;
  result.documents = read_document_lines(path);
  double nats = 0, tokens = 0;
  for (const DocumentLoss& document : result.documents.documents) {
    nats += document.nats;
    tokens += static_cast<double>(document.tokens);
  }
  // Only the order of sums may differ.
  if (std::abs(nats / tokens - result.loss) > 1e-9 * std::abs(result.loss)) {
    fail("{} has the loss {}, but {} has {}; remove both files to train {} again", path.string(), nats / tokens,
         study.result(job).string(), result.loss, job.name);
  }
}

void require_kept_checkpoints(const Study& study) {
  if (!study.keep_checkpoints) return;
  for (const StudyJob& job : study.jobs) {
    if (study.lacks_rate(job.system)) continue;
    const auto result = find_result(study, job);
    if (!result || result->diverged > 0 || path_exists(fs::path(job.run.run_dir) / "latest")) continue;
    fail(
        "study.keep_checkpoints = true, but the checkpoints of {} were removed when its result was written; remove {} "
        "to train it again, or leave the key out",
        job.name, study.result(job).string());
  }
}

void remove_checkpoints(const Study& study, const StudyJob& job) {
  if (study.keep_checkpoints || !path_exists(job.run.run_dir)) return;
  RunFolder(job.run.run_dir).remove_checkpoints();
}

void check_jobs(const Study& study, const Device& device) {
  std::set<std::string> read;
  for (const StudyJob& job : study.jobs) {
    if (!study.lacks_rate(job.system) && find_result(study, job)) continue;
    try {
      RunConfig run = job.run;
      const JobData data(run);
      for (const Dataset* dataset : {&data.train, &data.valid}) {
        if (read.insert(dataset->folder().string()).second) dataset->check_content();
      }
      plan_that_fits(run, data.train, &data.valid, &data.tokenizer, device);
    } catch (const UsageError& error) {
      fail_usage("system {}: {}", job.system, error.what());
    } catch (const Error& error) {
      fail("system {}: {}", job.system, error.what());
    }
  }
}

double measure_rate(const StudyJob& job, Device& device, Backend& backend) {
  RunConfig run = job.run;
  const Dataset train(run.data.train);
  const BatchSource source = timed_batches(run, train);
  const MemoryPlan plan = plan_that_fits(run, train, nullptr, nullptr, device).step;
  const int64_t rows = run.data.microbatch_rows;
  return measure_step_seconds(run, plan, device, backend, [&](int64_t step, int64_t microbatch) {
    return source.rows(step, microbatch * rows, rows);
  });
}

std::optional<JobResult> run_job(const Study& study, const StudyJob& wanted, Device& device, Backend& backend,
                                 ThreadPool& pool) {
  if (auto done = find_result(study, wanted)) return done;
  StudyJob job = wanted;
  RunConfig& run = job.run;
  const fs::path folder = run.run_dir;
  if (path_exists(folder / "run.toml")) require_same_settings(folder, read_file(folder / "run.toml"), job);
  const fs::path result_file = study.result(job);
  check_output_file_in(result_file.parent_path(), result_file.filename().string());
  const JobData data(run);
  const Dataset& valid = data.valid;
  const RunMemory memory = plan_that_fits(run, data.train, &valid, &data.tokenizer, device);
  const MemoryPlan& plan = memory.step;
  int64_t diverged = 0;
  DocumentLosses documents;
  try {
    Trainer trainer(run, plan, {data.train, &valid, data.tokenizer}, device, backend, pool,
                    {.resume = true, .planned_bytes = memory.device_total()});
    if (trainer.run() != 0) return std::nullopt;
    documents = trainer.last_document_losses();
  } catch (const Diverged& error) {
    diverged = error.step;
  }
  const ParameterCounts counts(run.model);
  JobResult result{.system = job.system,
                   .seed = job.seed,
                   .total_params = counts.paper_total(),
                   .activated_params = counts.paper_activated(),
                   .flops_per_sequence = static_cast<int64_t>(paper_flops(run.model, run.data.sequence_length)),
                   .flops_per_sequence_causal = static_cast<int64_t>(exact_flops(run.model, run.data.sequence_length)),
                   .sequences_per_step = run.data.rows_per_step,
                   .memory_bytes = plan.total(),
                   .steps = run.schedule.steps,
                   .curve = {},
                   .switches = {},
                   .settings = without_folder(run.resolved)};
  result.diverged = diverged;
  read_evaluations(folder / "eval.jsonl", read_log(folder / "log.jsonl", run.model.num_experts_per_tok, result),
                   result);
  if (diverged == 0 && !measure_switches(study, job, valid, device, backend, result.switches)) return std::nullopt;
  // Before the result, which says that the job is complete. The losses of preferences are not those of documents.
  if (diverged == 0 && run.step.objective == Objective::next_token) {
    make_folder(study.documents(job).parent_path());
    write_file(study.documents(job), document_lines(documents));
  }
  make_folder(study.result(job).parent_path());
  write_file(study.result(job), json_text(to_json(result), 1) + "\n");
  remove_checkpoints(study, job);
  return result;
}

}  // namespace moe
