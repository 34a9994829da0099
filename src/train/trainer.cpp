#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/clock.h"
#include "base/growing_file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/units.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/open_model.h"
#include "formats/json.h"
#include "infer/generate.h"
#include "infer/scorer.h"
#include "train/base_fingerprint.h"
#include "train/batches.h"
#include "train/begin_from.h"
#include "train/initialize.h"
#include "train/model_tokenizer.h"
#include "train/ranks.h"
#include "train/samples.h"

namespace moe {
namespace {

constexpr int64_t kMeasuredSteps = 10;  // steps before the time of the run is printed

// Thrown between the parts of long work after a signal.
struct Stopped {};

/// What a checkpoint keeps of the weights that are updated: all masters, or those of adapters.
std::vector<View> kept_masters(const RunConfig& run, const TrainingStep& step) {
  std::vector<View> views = step.masters();
  for (size_t i = 0; i < views.size() && !run.model.adapters.empty(); ++i) {
    if (step.table()[i].adapter == AdapterPart::none) views[i] = View{};
  }
  return views;
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

}  // namespace

Trainer::Trainer(const RunConfig& run, const MemoryPlan& plan, const TrainingData& data, Device& device,
                 Backend& backend, ThreadPool& pool, const StartOptions& options, Communicator& communicator)
    : run_(prepared(run, data)),
      data_(data),
      device_(device),
      backend_(backend),
      communicator_(communicator),
      folder_(run.run_dir, leads()),
      search_(searched(options)),
      step_(run_.model, run.step, plan, device, backend, communicator),
      kept_masters_(kept_masters(run_, step_)),
      source_(training_batches(run.data, run.seed, data.train)),
      fingerprint_(data.train.fingerprint()) {
  if (search_.found) {
    restore(*search_.found);
  } else {
    start(pool);
  }
  communicator_.gather("");  // all ranks have read the folder, so it may change
  if (!leads()) {
    if (infers_together() && data_.valid != nullptr) make_evaluator();
    return;
  }
  if (search_.found) {
    go_on_in_folder(search_.found->state);
  } else {
    for (const fs::path& log : {folder_.log(), folder_.evaluations()}) cut_lines(log, 0);
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
                                                    .progress = [this](int64_t, int64_t) { stop_between_parts(); }});
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
      begin_from(*open_weights(run_.from), new_tokens(run_, data_.train), step_, device_);
    } else {
      load_base();
      step_.initialize_adapters(run_.seed, &pool);
    }
    step_.parameters_from_masters();
    step_.clear_optimizer();
  }
}

/// The weights of model.from, into the parameters that are no adapters.
void Trainer::load_base() {
  const std::vector<View> base = base_views(step_.table(), step_.masters());
  load_model(run_.from, run_.model.base(), base, device_);
  base_fingerprint_ = content_fingerprint(base, device_);
}

void Trainer::go_on_in_folder(const TrainerState& state) {
  folder_.settle(search_);
  for (const auto& [log, bytes] :
       {std::pair{folder_.log(), state.log_bytes}, {folder_.evaluations(), state.eval_bytes}}) {
    const int64_t kept = cut_lines(log, bytes);
    if (kept < bytes) {
      log_warning("{} has {} bytes, but had {} at the checkpoint: some lines are missing", log.string(), kept, bytes);
    }
  }
  log_info("resuming from {} at step {}", folder_.checkpoint(done_).string(), done_);
  note_changes(folder_, done_, changes_);
}

std::vector<Batch> Trainer::batches_of(int64_t step) const {
  const int64_t rows = run_.data.microbatch_rows, first = step_.first_microbatch();
  std::vector<Batch> batches;
  for (int64_t i = 0; i < run_.step.microbatches; ++i) {
    batches.push_back(source_.rows(step - 1, (first + i) * rows, rows));
  }
  return batches;
}

StepLine Trainer::train_step(int64_t step) {
  const double started = steady_seconds();
  communicator_.set_step(step);
  communicator_.take_exposed_seconds();  // those of evaluations and samples do not count
  if (next_.empty()) next_ = batches_of(step);
  const int64_t first = step_.first_microbatch();
  step_.accumulate([&](int64_t index) { return std::move(next_[static_cast<size_t>(index - first)]); }, step);
  next_.clear();
  const double rate = run_.schedule.rate(step);
  step_.begin_update(step, rate, trains_on_after(step));
  // A GPU is still at this step, so it will not wait for the next one's batches.
  if (!device_.info().is_host && step < run_.schedule.steps) next_ = batches_of(step + 1);
  StepLine line{.step = step,
                .report = step_.end_update(),
                .learning_rate = rate,
                .tokens = source_.totals(step - 1).tokens,
                .seconds = steady_seconds() - started,
                .time = wall_seconds(),
                .epoch = source_.most_epochs(step),
                .peak_bytes = device_.peak_allocated_bytes(),
                .exchange_seconds = communicator_.take_exposed_seconds()};
  if (!std::isfinite(line.report.loss) || !std::isfinite(line.report.gradient_norm)) fail_diverged(line);
  return line;
}

/// Of all ranks, which own different gradients and may have different experts and layers. Indices into the table of the
/// whole model.
Optimizer::NotFinite Trainer::find_not_finite() {
  Optimizer::NotFinite own = step_.find_not_finite();
  if (communicator_.size() == 1) return own;
  const std::vector<Parameter> all = training_table(run_.model, run_.step);
  for (std::vector<size_t>* indices : {&own.gradients, &own.weights}) {
    for (size_t& index : *indices) {
      const auto is_it = [&](const Parameter& parameter) { return parameter.name == step_.table()[index].name; };
      index = static_cast<size_t>(std::find_if(all.begin(), all.end(), is_it) - all.begin());
    }
  }
  std::set<size_t> gradients, weights;
  for (const std::string& text : communicator_.gather(json_text(Json{own.gradients, own.weights}))) {
    const Json found = parse_json(text, "a rank");
    for (const Json& index : found.at(0)) gradients.insert(index.get<size_t>());
    for (const Json& index : found.at(1)) weights.insert(index.get<size_t>());
  }
  return {{gradients.begin(), gradients.end()}, {weights.begin(), weights.end()}};
}

std::string Trainer::newest_text() const {
  return saved_ > 0 ? fmt::format("; the newest checkpoint is {}", folder_.checkpoint(saved_).string()) : "";
}

// No checkpoint is written: the same step would diverge again from it, and it would replace an older one.
void Trainer::fail_diverged(const StepLine& line) {
  const Optimizer::NotFinite found = find_not_finite();
  const std::vector<Parameter> table = training_table(run_.model, run_.step);
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
  if (leads()) reports_->diverged(line);
  throw Diverged(line.step,
                 fmt::format("the loss at step {} is {} and the gradient norm {}: training has diverged{}{}; lower "
                             "optimizer.learning_rate, or continue from an earlier checkpoint",
                             line.step, line.report.loss, line.report.gradient_norm, where, newest_text()));
}

// Evaluation and samples need memory, disks and readers, which can fail. The step before them is complete and must be
// kept.
void Trainer::keeping_step(int64_t step, const std::function<void()>& work) {
  try {
    work();
  } catch (const Diverged&) {  // a checkpoint of these weights would be of no use
    throw;
  } catch (const RankLost&) {
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

/// The result of work with the model, which all ranks do if no rank has all of it. Where one of them fails, the others
/// wait for it, and must be ended.
template <class Work>
auto Trainer::inferred(const Work& work) {
  try {
    return work();
  } catch (const Diverged&) {  // of all ranks
    throw;
  } catch (const std::exception&) {
    others_wait_ = infers_together();
    throw;
  }
}

void Trainer::evaluate(int64_t step) {
  if (evaluator_ == nullptr) return;
  const EvaluationResult result = inferred([&] { return finite_evaluation(step); });
  if (!leads()) return;
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
  const std::vector<Sample> samples = inferred([&] {
    return make_samples(ModelOnDevice{step_.model(), run_.step.dtype, device_, backend_}, data_.train, data_.tokenizer,
                        run_.sample, run_.seed, [this] { stop_between_parts(); });
  });
  if (!leads()) return;
  print_samples(samples, step);
  reports_->samples(step, samples);
}

int Trainer::run() {
  if (!leads()) return run_to_end();
  reports_->set_state(RunState::running);
  try {
    const int status = run_to_end();
    reports_->set_state(status == 0 ? RunState::done : RunState::stopped);
    return status;
  } catch (const Diverged& error) {
    reports_->set_state(RunState::diverged, error.what());
    throw;
  } catch (const RankLost& lost) {
    const RankLost told(lost, newest_text() + "; go on with --resume");
    reports_->set_state(RunState::failed, told.what());
    throw told;
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
  if (!leads()) return 0;
  reports_->sync();
  clear_status();
  log_info("done: {}; the model is {}", counted(step, "step"), (folder_.path() / "latest").string());
  return 0;
}

int Trainer::stopped(int64_t step) {
  const int signal = signal_ != 0 ? signal_ : InterruptGuard::signal();
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

void Trainer::end_as_unhealthy(const std::optional<HealthWarning>& warning, int64_t step) {
  clear_status();
  const bool saved = saved_ == step || try_to_save(step);
  if (!warning) throw SharedError("rank 0 has ended the run");
  fail("ended after step {} by health.stop_on = {}: {}{}", step, warning->kind, warning->text,
       saved ? fmt::format("; the checkpoint is {}", folder_.checkpoint(step).string()) : newest_text());
}

/// Does what rank 0 alone does between two steps, with the others where it needs their part of the model. An error of
/// it ends all ranks, which first keep step number `step`. A signal that interrupts it, or reaches another rank, stops
/// all of them here.
void Trainer::lead(int64_t step, const std::function<void()>& work) {
  if (communicator_.size() == 1) return keeping_step(step, work);
  std::exception_ptr thrown;
  bool keep = false;
  if (leads() || infers_together()) {
    try {
      work();
    } catch (const Stopped&) {
    } catch (const Diverged&) {  // a checkpoint of these weights would be of no use
      thrown = std::current_exception();
    } catch (const std::exception&) {
      if (others_wait_) throw;
      thrown = std::current_exception();
      keep = true;
    }
  }
  const std::string fate = communicator_.gather(thrown ? keep ? "keep" : "end" : "go on")[0];
  if (fate != "go on") {
    keeping_step(fate == "keep" ? step : 0, [&] {
      if (thrown) std::rethrow_exception(thrown);
      throw SharedError("rank 0 has ended the run");
    });
  }
  stop_if_agreed();
}

/// What all ranks do after a step, as rank 0 says, and the first signal of any rank. One message, as GPUs wait for it.
Trainer::AfterStep Trainer::agreed(const AfterStep& own) {
  const std::vector<std::string> all = communicator_.gather(
      {own.saves ? 'y' : 'n', own.unhealthy ? 'y' : 'n', static_cast<char>(InterruptGuard::signal())});
  for (const std::string& of_rank : all) {
    if (signal_ == 0) signal_ = of_rank[2];
  }
  return {all[0][0] == 'y', all[0][1] == 'y'};
}

/// True if nothing needs the weights between this step and the next one, unless it comes unforeseen.
bool Trainer::trains_on_after(int64_t step) const {
  return step < run_.schedule.steps && !due(run_.checkpoint.every, step) && !due(run_.evaluation.every, step) &&
         !due(run_.sample.every, step);
}

/// Throws Stopped after a signal, in work that may take long: on all ranks, if they do it together.
void Trainer::stop_between_parts() {
  if (infers_together()) return stop_if_agreed();
  if (InterruptGuard::signal() != 0) throw Stopped();
}

/// Throws Stopped if any rank has had a signal. All ranks come here together.
void Trainer::stop_if_agreed() {
  for (const std::string& signal : communicator_.gather(std::string(1, static_cast<char>(InterruptGuard::signal())))) {
    if (signal_ == 0) signal_ = signal[0];
  }
  if (signal_ != 0) throw Stopped();
}

// `step` is always the last complete one.
void Trainer::run_steps(int64_t& step) {
  const int64_t last = run_.schedule.steps;
  ProgressLine progress(done_ + 1, last);
  tried_at_ = steady_seconds();
  // A checkpoint is written before the evaluation of its step. So a resumed run makes that evaluation (again).
  lead(done_, [&] {
    if (done_ > 0 && due(run_.evaluation.every, done_)) evaluate(done_);
    if (const std::string note = generation_note(run_.model); !note.empty() && !run_.sample.prompts.empty()) {
      log_info("samples: {}", note);
    }
    if (done_ == 0) show_samples(0);
  });
  while (step < last) {
    const StepLine line = train_step(step + 1);
    ++step;
    std::optional<HealthWarning> unhealthy;
    if (leads()) unhealthy = report(line, progress);
    const bool save_now = InterruptGuard::signal() == 0 && (due(run_.checkpoint.every, step) || due_by_time());
    const AfterStep todo = agreed({.saves = save_now, .unhealthy = unhealthy.has_value()});
    if (step == last) {
      save(step);
    } else if (todo.saves) {
      try_to_save(step);
    }
    if (step == last || todo.saves) stop_if_agreed();  // there may have been a signal meanwhile
    if (signal_ != 0) throw Stopped();
    if (todo.unhealthy) end_as_unhealthy(unhealthy, step);
    if (due(run_.evaluation.every, step)) lead(step, [&] { evaluate(step); });
    // Apart: if rank 0 cannot write what it has evaluated, the others must know before they make samples with it.
    if (due(run_.sample.every, step)) lead(step, [&] { show_samples(step); });
  }
}

/// The log and the progress line.
std::optional<HealthWarning> Trainer::report(const StepLine& line, ProgressLine& progress) {
  const int64_t step = line.step, last = run_.schedule.steps;
  const std::optional<HealthWarning> unhealthy = reports_->step(line);
  progress.show(line, worst_load(line.report, run_.model));
  if (step == done_ + kMeasuredSteps && step < last) {
    log_info("measured over {} steps: {:.3g} s a step, {} for the {} left", kMeasuredSteps, progress.seconds_per_step(),
             duration_text(progress.seconds_per_step() * static_cast<double>(last - step)),
             counted(last - step, "step"));
  }
  return unhealthy;
}

}  // namespace moe
