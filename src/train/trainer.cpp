#include "train/trainer.h"

#include <cmath>

#include "base/log.h"
#include "base/random.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/trainer_state.h"
#include "checkpoint/weights.h"
#include "infer/generate.h"
#include "train/interrupt.h"
#include "train/samples.h"

namespace moe {
namespace {

std::vector<ParameterSet> optimizer_sets(const TrainingStep& step) {
  // What is not trained is in ".master" alone.
  return {{".master", step.masters()}, {".exp_avg", step.exp_avg()}, {".exp_avg_sq", step.exp_avg_sq()}};
}

int64_t size_of_file(const fs::path& path) { return fs::exists(path) ? static_cast<int64_t>(fs::file_size(path)) : 0; }

RunConfig with_token_ids(RunConfig run, const Tokenizer& tokenizer) {
  const auto id = [](const std::optional<int32_t>& value) {
    return value ? std::optional<int64_t>(*value) : std::nullopt;
  };
  run.model.bos_token_id = id(tokenizer.bos());
  run.model.eos_token_id = id(tokenizer.eos());
  run.model.pad_token_id = id(tokenizer.pad());
  return run;
}

// Tells datasets apart that would give other batches: another tokenizer, other documents.
uint64_t identity(const Dataset& dataset) {
  const DatasetInfo& info = dataset.info();
  return hash_name(
      fmt::format("{:x} {} {} {}", info.tokenizer_fingerprint, info.documents(), info.tokens(), info.bytes()));
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

void check_data(const RunConfig& run, const TrainingData& data) {
  for (const Dataset* dataset : {&data.train, data.valid}) {
    if (dataset == nullptr || dataset->info().vocab_size <= run.model.vocab_size) continue;
    fail("{} was made with a vocabulary of {}, but model.vocab_size is {}; set it to at least {}",
         dataset->folder().string(), dataset->info().vocab_size, run.model.vocab_size, dataset->info().vocab_size);
  }
  if (data.valid != nullptr && data.valid->info().tokenizer_fingerprint != data.train.info().tokenizer_fingerprint) {
    fail("{} and {} were made with different tokenizers; make both with the same one", data.train.folder().string(),
         data.valid->folder().string());
  }
}

}  // namespace

Trainer::Trainer(const RunConfig& run, const MemoryPlan& plan, const TrainingData& data, Device& device,
                 Backend& backend, bool resume)
    : run_(with_token_ids(run, data.tokenizer)),
      data_(data),
      device_(device),
      backend_(backend),
      folder_(run.run_dir),
      step_(run_.model, run.step, plan, device, backend),
      source_(
          data.train,
          {.sequence_length = run.data.sequence_length, .rows_per_step = run.data.rows_per_step, .seed = run.seed}) {
  check_data(run_, data_);
  if (!resume && folder_.holds_a_run()) {
    fail("{} already holds a run; continue it with --resume, or choose another folder with --set run.dir=...",
         folder_.path().string());
  }
  const auto latest = folder_.latest_step();
  if (latest) {
    restore(*latest);
  } else {
    std::vector<int64_t> token_counts;
    if (run_.balanced_hash) token_counts = count_tokens(data_.train, run_.model.vocab_size);
    step_.initialize(run_.seed, run_.model.initializer_range, token_counts);
    FileAppender(folder_.log(), 0);
    FileAppender(folder_.evaluations(), 0);
    if (resume) log_info("no checkpoint in {}: starting at step 0", folder_.path().string());
  }
  write_file(folder_.path() / "run.toml", run_.resolved);
  if (data_.valid != nullptr) {
    evaluated_ = std::make_unique<EveryNth>(*data_.valid, run_.evaluation.every_nth);
    evaluator_ = std::make_unique<Evaluator>(
        Runtime{step_.model(), run_.step.dtype, device_, backend_}, *evaluated_,
        EvaluationOptions{.sequence_length = run_.data.sequence_length, .batch_rows = run_.evaluation.batch_rows});
  }
}

void Trainer::restore(int64_t step) {
  const fs::path folder = folder_.checkpoint(step);
  const TrainerState state = load_trainer_state(folder);
  const auto same = [&](const char* key, auto saved, auto asked) {
    if (saved == asked) return;
    fail("{} was trained with {} = {}, but the run file says {}; resume with the same value", folder.string(), key,
         saved, asked);
  };
  same("train.seed", state.seed, run_.seed);
  same("data.rows_per_step", state.rows_per_step, run_.data.rows_per_step);
  same("data.sequence_length", state.sequence_length, run_.data.sequence_length);
  same("the fingerprint of data.train", state.dataset_fingerprint, identity(data_.train));
  if (state.second_stage > 0 && state.step >= state.second_stage) {
    same("train.second_stage", state.second_stage, run_.step.second_stage);
  }
  load_optimizer(folder, run_.model, step_.table(), optimizer_sets(step_), device_);
  step_.parameters_from_masters();
  FileAppender(folder_.log(), state.log_bytes);
  FileAppender(folder_.evaluations(), state.eval_bytes);
  done_ = state.step;
  log_info("resuming from {} at step {}", folder.string(), done_);
}

StepLine Trainer::train_step(int64_t step) {
  const double started = steady_seconds();
  const int64_t rows = run_.data.microbatch_rows;
  step_.accumulate([&](int64_t index) { return source_.rows(step - 1, index * rows, rows); }, step);
  const double rate = run_.schedule.rate(step);
  StepLine line{.step = step,
                .report = step_.update(step, rate),
                .learning_rate = rate,
                .tokens = source_.totals(step - 1).tokens,
                .seconds = steady_seconds() - started};
  if (!std::isfinite(line.report.loss) || !std::isfinite(line.report.gradient_norm)) {
    fail(
        "the loss at step {} is {} and the gradient norm {}: training has diverged; lower optimizer.learning_rate, or "
        "resume from an earlier checkpoint in {}",
        step, line.report.loss, line.report.gradient_norm, folder_.path().string());
  }
  return line;
}

void Trainer::save(int64_t step) {
  const auto write = [&](const fs::path& folder) {
    write_file(folder / "config.json", to_hf_config(run_.model, run_.step.dtype).dump(2) + "\n");
    save_weights(folder, run_.model, step_.table(), step_.parameters(), device_);
    save_optimizer(folder, run_.model, step_.table(), optimizer_sets(step_), device_);
    data_.tokenizer.save(folder);
    write_file(folder / "run.toml", run_.resolved);
    save_trainer_state(folder, {.step = step,
                                .seed = run_.seed,
                                .rows_per_step = run_.data.rows_per_step,
                                .sequence_length = run_.data.sequence_length,
                                .dataset_fingerprint = identity(data_.train),
                                .log_bytes = size_of_file(folder_.log()),
                                .eval_bytes = size_of_file(folder_.evaluations()),
                                .second_stage = run_.step.second_stage});
  };
  folder_.save_checkpoint(step, write, run_.checkpoint);
}

void Trainer::evaluate(int64_t step) {
  if (evaluator_ == nullptr) return;
  const EvaluationResult result = evaluator_->run();
  FileAppender(folder_.evaluations()).write(to_json_line(step, result));
  log_info("step {}: validation loss {:.4f}, {:.4f} bits per byte", step, result.all.loss(),
           result.all.bits_per_byte());
}

void Trainer::show_samples(int64_t step) {
  if (run_.sample.prompts.empty()) return;
  clear_status();
  write_samples(Runtime{step_.model(), run_.step.dtype, device_, backend_}, data_.tokenizer, run_.sample, step,
                run_.seed);
}

int Trainer::run() {
  const InterruptGuard guard;
  FileAppender log(folder_.log());
  ProgressLine progress(done_ + 1, run_.schedule.steps);
  // A checkpoint is written before the evaluation of its step, so a resumed run makes that evaluation (again).
  if (done_ > 0 && due(run_.evaluation.every, done_)) evaluate(done_);
  if (const std::string note = generation_note(run_.model); !note.empty() && !run_.sample.prompts.empty()) {
    log_info("samples: {}", note);
  }
  if (done_ == 0) show_samples(0);
  for (int64_t step = done_ + 1; step <= run_.schedule.steps; ++step) {
    const StepLine line = train_step(step);
    log.write(to_json_line(line, run_.model));
    progress.show(line, worst_load(line.report, run_.model));
    const int signal = InterruptGuard::signal();
    if (due(run_.checkpoint.every, step) || signal != 0) save(step);
    if (signal != 0) {
      clear_status();
      log_info("stopped by a signal after step {}; the checkpoint is {}; go on with --resume", step,
               folder_.checkpoint(step).string());
      return 128 + signal;
    }
    if (due(run_.evaluation.every, step)) evaluate(step);
    if (due(run_.sample.every, step)) show_samples(step);
  }
  clear_status();
  log_info("done: {} steps; the model is {}", run_.schedule.steps, (folder_.path() / "latest").string());
  return 0;
}

}  // namespace moe
