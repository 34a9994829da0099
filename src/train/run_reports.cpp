#include "train/run_reports.h"

#include <algorithm>
#include <cmath>

#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/free_memory.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/shell.h"
#include "formats/event_file.h"
#include "formats/json.h"
#include "model/cost.h"
#include "train/start_text.h"

namespace moe {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kSamplesFile = "samples.jsonl";
constexpr const char* kWarningsFile = "warnings.jsonl";
constexpr double kStatusSeconds = 10;
/// A curve of this many points is as good as a longer one, and its file stays small.
constexpr int64_t kEventSteps = 5000;

HealthFacts health_facts(const RunConfig& run) {
  HealthFacts facts{.warmup_steps = run.schedule.warmup_steps, .experts = run.model.n_routed_experts};
  if (run.step.objective == Objective::next_token)
    facts.uniform_loss = std::log(static_cast<double>(run.model.vocab_size));
  for (int64_t layer = 0; layer < run.model.num_hidden_layers; ++layer) {
    if (run.model.is_moe_layer(layer)) facts.layers.push_back(layer);
  }
  return facts;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "host";
}

std::string fingerprint_text(const Dataset& data) { return fmt::format("{:016x}", data.fingerprint()); }

OrderedJson plan_json(const RunConfig& run, const MemoryPlan& plan, const StartOptions& options) {
  OrderedJson json = {{"step_flops", step_flops(run, plan)}};
  if (options.planned_bytes > 0) json["memory_bytes"] = options.planned_bytes;
  if (options.planned_step_seconds > 0) json["step_seconds"] = options.planned_step_seconds;
  return json;
}

/// The first line of a log, for somebody who finds it without the rest.
std::string about_run(const RunConfig& run, const MemoryPlan& plan, const TrainingData& data,
                      const StartOptions& options, int64_t first_step, double now) {
  const ParameterCounts counts(run.model);
  OrderedJson about = {{"program", options.program},
                       {"started", utc_text(now)},
                       {"host", host_name()},
                       {"device", options.device},
                       {"first_step", first_step},
                       {"seed", run.seed},
                       {"method", run.method},
                       {"parameters", counts.stored()},
                       {"activated_parameters", counts.activated()},
                       {"plan", plan_json(run, plan, options)},
                       {"data", {{"path", run.data.train}, {"fingerprint", fingerprint_text(data.train)}}}};
  if (data.valid != nullptr) {
    about["valid"] = {{"path", run.data.valid}, {"fingerprint", fingerprint_text(*data.valid)}};
  }
  if (!run.from.empty()) about["from"] = run.from;
  return json_text(OrderedJson{{"run", about}}) + "\n";
}

/// Drops the lines of a log from the first one on that is of a step after `step`, or damaged.
void keep_lines_until(const fs::path& path, int64_t step) {
  if (!path_exists(path)) return;
  const std::string text = read_file(path);
  size_t kept = 0;
  for (size_t end; (end = text.find('\n', kept)) != std::string::npos; kept = end + 1) {
    Json line;
    if (find_json_mistake(std::string_view(text).substr(kept, end - kept), line)) break;
    if (json_int(line, "step", path.string()) > step) break;
  }
  cut_lines(path, static_cast<int64_t>(kept));
}

void append(std::unique_ptr<PatientLog>& log, const fs::path& path, const OrderedJson& line) {
  if (log == nullptr) log = std::make_unique<PatientLog>(path);
  log->write(json_text(line) + "\n");
}

bool stops_on(const RunConfig& run, const HealthWarning& warning) {
  const auto& kinds = run.health.stop_on;
  return std::find(kinds.begin(), kinds.end(), warning.kind) != kinds.end();
}

}  // namespace

const char* name(RunState state) {
  switch (state) {
    case RunState::running:
      return "running";
    case RunState::done:
      return "done";
    case RunState::stopped:
      return "stopped";
    case RunState::diverged:
      return "diverged";
    case RunState::failed:
      return "failed";
  }
  return "?";
}

RunReports::RunReports(const RunFolder& folder, const RunConfig& run, const MemoryPlan& plan, const TrainingData& data,
                       const StartOptions& options, int64_t first_step)
    : run_(run),
      folder_(folder.path()),
      log_(folder.log()),
      evaluations_(folder.evaluations()),
      health_(health_facts(run)),
      alarm_(run.model),
      events_every_(1 + run.schedule.steps / kEventSteps),
      step_(first_step - 1) {
  const double now = wall_seconds();
  for (const char* name : {kSamplesFile, kWarningsFile}) keep_lines_until(folder_ / name, first_step - 1);
  log_.write(about_run(run, plan, data, options, first_step, now));
  if (run.log.tensorboard) {
    events_ = std::make_unique<PatientLog>(folder_ / events_name());
    events_->write(first_event(now));
    if (first_step > 1) events_->write(restart_event(now, first_step));
  }
}

// A name of this start alone: TensorBoard reads all files of a folder whose names begin like this, in their order.
std::string RunReports::events_name() const {
  return fmt::format("events.out.tfevents.{:010d}.{}.{}", static_cast<int64_t>(wall_seconds()), host_name(),
                     ::getpid());
}

std::optional<HealthWarning> RunReports::step(const StepLine& line) {
  log_.write(to_json_line(line, run_.model, run_.log.counts_every));
  step_ = line.step;
  loss_ = line.report.loss;
  if (events_ != nullptr) write_events(line);
  std::optional<HealthWarning> ends;
  std::vector<HealthWarning> warnings = health_.watch(line.step, line.report);
  for (const std::string& text : alarm_.after(line.step, line.report.counts)) warnings.push_back({"collapse", text});
  for (const HealthWarning& warning : warnings) {
    log_warning("{}", warning.text);
    keep(warning, line.step);
    if (!ends && stops_on(run_, warning)) ends = warning;
  }
  if (steady_seconds() - status_at_ >= kStatusSeconds) write_status();
  return ends;
}

void RunReports::diverged(const StepLine& line) {
  step_ = line.step;
  log_.write(to_json_line(line, run_.model, run_.log.counts_every));
}

void RunReports::write_events(const StepLine& line) {
  const bool all = line.step == run_.schedule.steps;
  EventSummary summary;
  if (all || line.step % events_every_ == 0) {
    const StepReport& report = line.report;
    summary.add("loss/train", report.loss);
    summary.add("gradient_norm", report.gradient_norm);
    summary.add("learning_rate", line.learning_rate);
    summary.add("tokens_per_second", static_cast<double>(line.tokens) / line.seconds);
    summary.add("epoch", line.epoch);
    if (run_.model.moe_layers() > 0) {
      summary.add("experts/worst_load", worst_load(report, run_.model));
      summary.add("experts/dropped", dropped_share(report));
    }
  }
  if (run_.log.counts_every > 0 && (all || line.step % run_.log.counts_every == 0)) {
    for (const auto& [layer, loads] : loads_of(line.report, run_.model)) {
      summary.add_histogram(fmt::format("load/layer_{:02d}", layer), loads);
    }
  }
  if (!summary.empty()) events_->write(summary.record(line.time, line.step));
}

void RunReports::evaluation(int64_t step, const EvaluationResult& result,
                            const std::optional<PreferenceReport>& preference) {
  evaluations_.write(to_json_line(step, result, preference));
  if (events_ == nullptr) return;
  EventSummary summary;
  summary.add("loss/valid", preference ? preference->loss : result.all.loss());
  if (!preference) summary.add("bits_per_byte/valid", result.all.bits_per_byte());
  for (const Score& score : result.domains) {
    if (result.domains.size() > 1) summary.add("loss/valid/" + score.name, score.loss());
  }
  events_->write(summary.record(wall_seconds(), step));
}

void RunReports::keep(const HealthWarning& warning, int64_t step) {
  last_warning_ = warning.text;
  append(warnings_, folder_ / kWarningsFile, {{"step", step}, {"kind", warning.kind}, {"text", warning.text}});
}

void RunReports::samples(int64_t step, const std::vector<Sample>& samples) {
  OrderedJson list = OrderedJson::array();
  for (const Sample& sample : samples) list.push_back({{"prompt", sample.prompt}, {"text", sample.text}});
  append(samples_, folder_ / kSamplesFile, {{"step", step}, {"samples", list}});
}

LogLengths RunReports::sync() { return {.log = log_.sync(), .evaluations = evaluations_.sync()}; }

// The run does not depend on this file, so an error is only told.
void RunReports::write_status() {
  status_at_ = steady_seconds();
  OrderedJson status = {{"state", name(state_)},
                        {"step", step_},
                        {"steps", run_.schedule.steps},
                        {"loss", loss_},
                        {"time", utc_text(wall_seconds())},
                        {"process", static_cast<int64_t>(::getpid())},
                        {"peak_host_bytes", peak_resident_bytes()},
                        {"last_warning", last_warning_}};
  if (!why_.empty()) status["why"] = why_;
  try {
    write_file(folder_ / "status.json", json_text(status, 1) + "\n");
  } catch (const std::exception& error) {
    if (!status_failed_) log_warning("{}; the run goes on", error.what());
    status_failed_ = true;
  }
}

void RunReports::set_state(RunState state, const std::string& why) {
  state_ = state;
  why_ = why;
  write_status();
  if (state == RunState::running || run_.on_end.empty()) return;
  const int status = run_in_shell(
      run_.on_end,
      {{"MOE_RUN_DIR", folder_.string()}, {"MOE_STATE", name(state)}, {"MOE_STEP", fmt::format("{}", step_)}});
  if (status != 0) log_warning("run.on_end: `{}` ended with status {}", run_.on_end, status);
}

}  // namespace moe
