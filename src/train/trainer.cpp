#include "train/trainer.h"

#include <cmath>
#include <set>

#include "base/clock.h"
#include "base/growing_file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/units.h"
#include "checkpoint/expert_list.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/open_model.h"
#include "checkpoint/trainer_state.h"
#include "checkpoint/weights.h"
#include "checkpoint/write_adapter.h"
#include "infer/generate.h"
#include "infer/scorer.h"
#include "train/base_fingerprint.h"
#include "train/batches.h"
#include "train/begin_from.h"
#include "train/initialize.h"
#include "train/samples.h"

namespace moe {
namespace {

constexpr int64_t kMeasuredSteps = 10;  // steps before the time of the run is printed

// Thrown between the parts of long work after a signal.
struct Stopped {};

void stop_if_asked() {
  if (InterruptGuard::signal() != 0) throw Stopped();
}

/// What a checkpoint keeps of the weights that are updated: all masters, or those of adapters.
std::vector<View> kept_masters(const RunConfig& run, const TrainingStep& step) {
  std::vector<View> views = step.masters();
  for (size_t i = 0; i < views.size() && !run.model.adapters.empty(); ++i) {
    if (step.table()[i].adapter == AdapterPart::none) views[i] = View{};
  }
  return views;
}

std::vector<ParameterSet> optimizer_sets(const TrainingStep& step, const std::vector<View>& masters) {
  // Parameters that are not trained are only in ".master".
  std::vector<ParameterSet> sets{{".master", masters, &step.parameters()}};
  for (const Optimizer::Slot& slot : step.optimizer().slots()) sets.push_back({"." + slot.name, slot.views});
  return sets;
}

// The run after its checks, with the tokenizer's special tokens.
RunConfig prepared(RunConfig run, const TrainingData& data) {
  MOE_CHECK(run.data.microbatch_rows > 0 && run.evaluation.batch_rows > 0);
  check_before_start(run, data);
  const Tokenizer& tokenizer = data.tokenizer;
  const auto id = [](const std::optional<int32_t>& value) {
    return value ? std::optional<int64_t>(*value) : std::nullopt;
  };
  run.model.bos_token_id = id(tokenizer.bos());
  run.model.eos_token_id = id(tokenizer.eos());
  run.model.pad_token_id = id(tokenizer.pad());
  return run;
}

std::string in_words(const Parameter& parameter) {
  return parameter.layer < 0 ? parameter.name : fmt::format("{} (layer {})", parameter.name, parameter.layer);
}

std::vector<int64_t> count_tokens(const Documents& documents, int64_t vocabulary) {
  std::vector<int64_t> counts(static_cast<size_t>(vocabulary));
  std::vector<int32_t> tokens;
  for (int64_t document = 0; document < documents.count(); ++document) {
    tokens.resize(static_cast<size_t>(documents.length(document)));
    documents.copy_tokens(document, 0, documents.length(document), tokens.data());
    for (const int32_t token : tokens) ++counts[static_cast<size_t>(token)];
  }
  return counts;
}

NewTokens new_tokens_of(const TrainingData& data) {
  const DatasetInfo& info = data.train.info();
  return info.base_fingerprint == 0 ? NewTokens{} : NewTokens{.first = info.base_ids, .end = info.vocab_size};
}

/// Where a text that the model writes ends: at EOS, and at what ends the answers that it has learned.
std::string generation_settings(const ModelConfig& model, const std::vector<int32_t>& answer_ends) {
  std::set<int64_t> ends(answer_ends.begin(), answer_ends.end());
  if (model.eos_token_id) ends.insert(*model.eos_token_id);
  Json json{{"eos_token_id", ends}};
  if (model.bos_token_id) json["bos_token_id"] = *model.bos_token_id;
  return json_text(json, 2) + "\n";
}

}  // namespace

Trainer::Trainer(const RunConfig& run, const MemoryPlan& plan, const TrainingData& data, Device& device,
                 Backend& backend, ThreadPool& pool, const StartOptions& options)
    : run_(prepared(run, data)),
      data_(data),
      device_(device),
      backend_(backend),
      folder_(run.run_dir),
      search_(searched(options)),
      step_(run_.model, run.step, plan, device, backend),
      kept_masters_(kept_masters(run_, step_)),
      source_(training_batches(run.data, run.seed, data.train)),
      fingerprint_(data.train.fingerprint()) {
  if (search_.found) {
    restore(*search_.found);
  } else {
    start(pool);
    if (options.resume) log_info("no checkpoint in {}: starting at step 0", folder_.path().string());
  }
  if (run_.step.objective == Objective::dpo) find_reference();
  if (data_.valid != nullptr) make_evaluator();
  // Before the first line of a log: a folder with lines but without settings cannot be resumed.
  write_file(folder_.path() / "run.toml", run_.resolved);
  reports_ = std::make_unique<RunReports>(folder_, run_, plan, data_, options, done_ + 1);
}

void Trainer::make_evaluator() {
  evaluated_ = std::make_unique<EveryNth>(evaluated_documents(run_, *data_.valid));
  evaluator_ =
      std::make_unique<Evaluator>(ModelOnDevice{step_.model(), run_.step.dtype, device_, backend_}, *evaluated_,
                                  EvaluationOptions{.sequence_length = run_.data.sequence_length,
                                                    .batch_rows = run_.evaluation.batch_rows,
                                                    .keep_documents = true,
                                                    .progress = [](int64_t, int64_t) { stop_if_asked(); }});
}

// A resumed run's weights are no longer the reference's.
void Trainer::find_reference() {
  if (search_.found) {
    reference_ = load_reference(folder_.path(), data_);
  } else {
    reference_ = compute_reference({step_.model(), run_.step.dtype, device_, backend_}, run_, data_, [] {});
    save_reference(folder_.path(), reference_, data_);
  }
  source_.set_reference(reference_.train);
}

CheckpointSearch Trainer::searched(const StartOptions& options) {
  CheckpointSearch search = search_start(folder_.path(), options.resume);
  if (search.found) changes_ = check_same_run(*search.found, run_, data_.train, options.allowed);
  return search;
}

void Trainer::start(ThreadPool& pool) {
  std::vector<int64_t> token_counts;
  if (run_.balanced_hash) token_counts = count_tokens(data_.train, run_.model.vocab_size);
  if (run_.from.empty()) {
    step_.initialize(run_.seed, run_.model.initializer_range, token_counts, &pool);
  } else {
    if (run_.model.adapters.empty()) {
      begin_from(*open_weights(run_.from), new_tokens_of(data_), step_, device_);
    } else {
      load_base();
      step_.initialize_adapters(run_.seed, &pool);
    }
    step_.parameters_from_masters();
    step_.clear_optimizer();
  }
  for (const fs::path& log : {folder_.log(), folder_.evaluations()}) cut_lines(log, 0);
}

/// The weights of model.from, into the parameters that are no adapters.
void Trainer::load_base() {
  const std::vector<View> base = base_views(step_.table(), step_.masters());
  load_model(run_.from, run_.model.base(), base, device_);
  base_fingerprint_ = content_fingerprint(base, device_);
}

void Trainer::restore(const FoundCheckpoint& found) {
  check_optimizer_state(found, run_, changes_);
  if (!run_.model.adapters.empty()) {  // whose checkpoints do not have the model
    load_base();
    check_base(found, run_, changes_, base_fingerprint_);
  }
  load_optimizer(found.folder, run_.model, step_.table(), optimizer_sets(step_, kept_masters_), device_);
  step_.parameters_from_masters();
  folder_.settle(search_);
  const TrainerState& state = found.state;
  for (const auto& [log, bytes] :
       {std::pair{folder_.log(), state.log_bytes}, {folder_.evaluations(), state.eval_bytes}}) {
    const int64_t kept = cut_lines(log, bytes);
    if (kept < bytes) {
      log_warning("{} has {} bytes, but had {} at the checkpoint: some lines are missing", log.string(), kept, bytes);
    }
  }
  done_ = saved_ = state.step;
  log_info("resuming from {} at step {}", folder_.checkpoint(done_).string(), done_);
  note_changes(folder_, done_, changes_);
}

std::vector<Batch> Trainer::batches_of(int64_t step) const {
  const int64_t rows = run_.data.microbatch_rows;
  std::vector<Batch> batches;
  for (int64_t i = 0; i < run_.step.microbatches; ++i) batches.push_back(source_.rows(step - 1, i * rows, rows));
  return batches;
}

StepLine Trainer::train_step(int64_t step) {
  const double started = steady_seconds();
  if (next_.empty()) next_ = batches_of(step);
  step_.accumulate([&](int64_t index) { return std::move(next_[static_cast<size_t>(index)]); }, step);
  next_.clear();
  const double rate = run_.schedule.rate(step);
  step_.begin_update(step, rate);
  // A GPU is still at this step, so it will not wait for the next one's batches.
  if (!device_.info().is_host && step < run_.schedule.steps) next_ = batches_of(step + 1);
  StepLine line{.step = step,
                .report = step_.end_update(),
                .learning_rate = rate,
                .tokens = source_.totals(step - 1).tokens,
                .seconds = steady_seconds() - started,
                .time = wall_seconds(),
                .epoch = source_.most_epochs(step),
                .peak_bytes = device_.peak_allocated_bytes()};
  if (!std::isfinite(line.report.loss) || !std::isfinite(line.report.gradient_norm)) fail_diverged(line);
  return line;
}

std::string Trainer::newest_text() const {
  return saved_ > 0 ? fmt::format("; the newest checkpoint is {}", folder_.checkpoint(saved_).string()) : "";
}

// No checkpoint is written: the same step would diverge again from it, and it would replace an older one.
void Trainer::fail_diverged(const StepLine& line) {
  const auto found = step_.find_not_finite();
  const auto& table = step_.table();
  std::string where;
  if (!found.weights.empty()) {
    where = fmt::format("; weights of {} are not finite, first {}", counted(found.weights.size(), "tensor"),
                        in_words(table[found.weights.front()]));
  }
  if (!found.gradients.empty()) {
    // Backward goes from the last tensor to the first, and values that are not finite spread on the way.
    where += fmt::format("; gradients of {} are not finite, from {} (where backward met it first) to {}",
                         counted(found.gradients.size(), "tensor"), in_words(table[found.gradients.back()]),
                         in_words(table[found.gradients.front()]));
  }
  clear_status();
  reports_->diverged(line);
  throw Diverged(line.step,
                 fmt::format("the loss at step {} is {} and the gradient norm {}: training has diverged{}{}; lower "
                             "optimizer.learning_rate, or continue from an earlier checkpoint",
                             line.step, line.report.loss, line.report.gradient_norm, where, newest_text()));
}

void Trainer::save(int64_t step) {
  const auto write = [&](const fs::path& folder) {
    // The logs must be on the disk before the checkpoint that records their lengths.
    const LogLengths lengths = reports_->sync();
    std::vector<WrittenFile> written =
        save_optimizer(folder, run_.model, step_.table(), optimizer_sets(step_, kept_masters_), device_);
    written.push_back(save_model(folder));
    data_.tokenizer.save(folder);
    write_file(folder / "run.toml", run_.resolved);
    if (const auto& ends = data_.train.info().answer_ends; !ends.empty()) {
      write_file(folder / "generation_config.json", generation_settings(run_.model, ends));
    }
    if (run_.step.experts) write_file(folder / kExpertListFile, expert_list_text(*run_.step.experts));
    save_trainer_state(folder, {.step = step,
                                .seed = run_.seed,
                                .rows_per_step = run_.data.rows_per_step,
                                .sequence_length = run_.data.sequence_length,
                                .dataset_fingerprint = fingerprint_,
                                .log_bytes = lengths.log,
                                .eval_bytes = lengths.evaluations,
                                .second_stage = run_.step.second_stage,
                                .base_fingerprint = base_fingerprint_});
    save_checksums(folder, written);
  };
  folder_.save_checkpoint(step, write, run_.checkpoint);
  saved_ = step;
}

/// The whole model, or the adapters alone.
WrittenFile Trainer::save_model(const fs::path& folder) {
  if (!run_.model.adapters.empty()) {
    // The checkpoint that `latest` is now, because a run that goes on moves it.
    std::error_code error;
    const fs::path real = fs::weakly_canonical(run_.from, error);
    const std::string base = error ? run_.from : real.string();
    return save_adapter(folder, run_.model, run_.step.lora, base, step_.table(), step_.parameters(), device_);
  }
  write_file(folder / "config.json", json_text(to_hf_config(run_.model, run_.step.dtype), 2) + "\n");
  return save_weights(folder, run_.model, step_.table(), step_.parameters(), device_);
}

// Counted from the last attempt, so that a full disk is not tried at every step.
bool Trainer::due_by_time() const {
  return run_.checkpoint.minutes > 0 && steady_seconds() - tried_at_ >= 60 * run_.checkpoint.minutes;
}

// If it cannot be written, the run continues: it still holds the weights, and there may be room later.
bool Trainer::try_to_save(int64_t step) {
  try {
    save(step);
    tried_at_ = steady_seconds();
    return true;
  } catch (const std::exception& error) {
    tried_at_ = steady_seconds();
    const std::string newest =
        saved_ > 0 ? "the newest one is " + folder_.checkpoint(saved_).string() : "there is no earlier one";
    log_warning("the checkpoint of step {} was NOT written: {}; {}", step, error.what(), newest);
    return false;
  }
}

// Evaluation and samples need memory, disks and readers, which can fail. The step before them is complete and must be
// kept.
void Trainer::keeping_step(int64_t step, const std::function<void()>& work) {
  try {
    work();
  } catch (const Diverged&) {  // a checkpoint of these weights would be of no use
    throw;
  } catch (const std::exception&) {
    if (step > saved_ && try_to_save(step)) {
      log_info("the checkpoint of step {} is {}; go on with --resume", step, folder_.checkpoint(step).string());
    }
    throw;
  }
}

EvaluationResult Trainer::finite_evaluation(int64_t step) {
  try {
    return evaluator_->run();
  } catch (const NotFinite& error) {
    clear_status();
    throw Diverged(step,
                   fmt::format("the validation loss at step {} is not finite, first {}: training has diverged{}; lower "
                               "optimizer.learning_rate, or continue from an earlier checkpoint",
                               step, error.where, newest_text()));
  }
}

PreferenceReport Trainer::preference_of(const EvaluationResult& result) const {
  PreferenceSums sums(run_.step.dpo_beta);
  const auto change = [&](size_t document) {
    const auto original = static_cast<size_t>(evaluated_->original(static_cast<int64_t>(document)));
    return -result.document_nats[document] - reference_.valid[original];
  };
  for (size_t i = 0; i + 1 < result.document_nats.size(); i += 2) sums.add(change(i), change(i + 1));
  return sums.mean();
}

void Trainer::evaluate(int64_t step) {
  if (evaluator_ == nullptr) return;
  const EvaluationResult result = finite_evaluation(step);
  document_nats_ = result.document_nats;
  if (run_.step.objective == Objective::dpo) {
    const PreferenceReport preference = preference_of(result);
    reports_->evaluation(step, result, preference);
    log_info("step {}: validation loss of preferences {:.4f}, {:.1f}% of the pairs right, margin {:.4f}", step,
             preference.loss, 100 * preference.accuracy, preference.margin);
    return;
  }
  reports_->evaluation(step, result);
  log_info("step {}: validation loss {:.4f}, {:.4f} bits per byte", step, result.all.loss(),
           result.all.bits_per_byte());
}

DocumentLosses Trainer::last_document_losses() const { return document_losses(*evaluated_, document_nats_); }

void Trainer::show_samples(int64_t step) {
  if (run_.sample.prompts.empty()) return;
  clear_status();
  reports_->samples(step, write_samples(ModelOnDevice{step_.model(), run_.step.dtype, device_, backend_}, data_.train,
                                        data_.tokenizer, run_.sample, step, run_.seed, stop_if_asked));
}

int Trainer::run() {
  reports_->set_state(RunState::running);
  try {
    const int status = run_to_end();
    reports_->set_state(status == 0 ? RunState::done : RunState::stopped);
    return status;
  } catch (const Diverged& error) {
    reports_->set_state(RunState::diverged, error.what());
    throw;
  } catch (const std::exception& error) {
    reports_->set_state(RunState::failed, error.what());
    throw;
  }
}

int Trainer::run_to_end() {
  const InterruptGuard guard;
  int64_t step = done_;
  try {
    run_steps(step);
  } catch (const Stopped&) {
    return stopped(step);
  }
  reports_->sync();
  clear_status();
  log_info("done: {}; the model is {}", counted(step, "step"), (folder_.path() / "latest").string());
  return 0;
}

int Trainer::stopped(int64_t step) {
  const int signal = InterruptGuard::signal();
  clear_status();
  if (step == 0) {
    log_info("stopped by a signal before the first step; nothing was trained");
    return 128 + signal;
  }
  if (step > saved_) save(step);
  log_info("stopped by a signal after step {}; the checkpoint is {}; go on with --resume", step,
           folder_.checkpoint(step).string());
  return 128 + signal;
}

void Trainer::end_if_unhealthy(const std::optional<HealthWarning>& warning, int64_t step) {
  if (!warning) return;
  clear_status();
  const bool saved = saved_ == step || try_to_save(step);
  fail("ended after step {} by health.stop_on = {}: {}{}", step, warning->kind, warning->text,
       saved ? fmt::format("; the checkpoint is {}", folder_.checkpoint(step).string()) : newest_text());
}

// `step` is always the last complete one.
void Trainer::run_steps(int64_t& step) {
  const int64_t last = run_.schedule.steps;
  ProgressLine progress(done_ + 1, last);
  tried_at_ = steady_seconds();
  // A checkpoint is written before the evaluation of its step. So a resumed run makes that evaluation (again).
  if (done_ > 0 && due(run_.evaluation.every, done_)) evaluate(done_);
  if (const std::string note = generation_note(run_.model); !note.empty() && !run_.sample.prompts.empty()) {
    log_info("samples: {}", note);
  }
  if (done_ == 0) show_samples(0);
  while (step < last) {
    const StepLine line = train_step(step + 1);
    ++step;
    const std::optional<HealthWarning> unhealthy = reports_->step(line);
    progress.show(line, worst_load(line.report, run_.model));
    if (step == done_ + kMeasuredSteps && step < last) {
      log_info(
          "measured over {} steps: {:.3g} s a step, {} for the {} left", kMeasuredSteps, progress.seconds_per_step(),
          duration_text(progress.seconds_per_step() * static_cast<double>(last - step)), counted(last - step, "step"));
    }
    if (step == last) {
      save(step);
    } else if (InterruptGuard::signal() == 0 && (due(run_.checkpoint.every, step) || due_by_time())) {
      try_to_save(step);
    }
    stop_if_asked();
    end_if_unhealthy(unhealthy, step);
    keeping_step(step, [&] {
      if (due(run_.evaluation.every, step)) evaluate(step);
      if (due(run_.sample.every, step)) show_samples(step);
    });
  }
}

}  // namespace moe
