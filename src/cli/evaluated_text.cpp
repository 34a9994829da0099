#include "cli/evaluated_text.h"

#include <algorithm>

#include "base/activity.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/paths.h"
#include "data/reader.h"
#include "eval/text_documents.h"
#include "train/model_tokenizer.h"
#include "train/progress.h"

namespace moe {
namespace {

/// True if the only FILE is a dataset of `moe data`.
bool is_dataset(const TextSourceOptions& options) {
  return options.files.size() == 1 && options.labelled.empty() &&
         path_exists(fs::path(options.files[0]) / "dataset.json");
}

void check_dataset(const Dataset& dataset, const std::string& model, const ModelConfig& config) {
  const TokenizerMatch match = match_tokenizer(dataset, model);
  const bool fits = match == TokenizerMatch::same || match == TokenizerMatch::unknown;
  if (fits && dataset.info().vocab_size <= config.vocab_size) return;
  fail("{} was made with another tokenizer than that of {}; make it again with `moe data --tokenizer {}`",
       dataset.name(), model, model);
}

}  // namespace

EvaluatedText::EvaluatedText(const TextSourceOptions& options) : options_(options) {
  if (is_dataset(options)) {
    dataset_.emplace(options.files.front());
  } else {
    sources_ = text_sources(options);
  }
}

const Documents& EvaluatedText::documents(const std::string& folder, const ModelConfig& config,
                                          const Tokenizer& tokenizer, ThreadPool& pool) {
  if (dataset_) {
    check_dataset(*dataset_, folder, config);
    return *dataset_;
  }
  const Activity activity("reading the texts");
  show_status("reading the texts");
  SkippedDocuments skipped(options_);
  texts_ = load_documents(sources_, tokenizer, pool, skipped.read_options());
  clear_status();
  skipped.report();
  return texts_;
}

bool EvaluatedText::from_standard_input() const {
  return std::any_of(sources_.begin(), sources_.end(),
                     [](const TextSource& source) { return source.file == kStandardInput; });
}

int64_t evaluated_row(int64_t sequence_length, const std::string& model, const ModelConfig& config) {
  if (sequence_length == 0) return config.max_position_embeddings;
  if (sequence_length > config.max_position_embeddings) {
    fail_usage("--sequence-length {}: {} has max_position_embeddings {}; use at most that", sequence_length, model,
               config.max_position_embeddings);
  }
  return sequence_length;
}

EvaluationResult evaluate_with_status(const LoadedModel& model, const Documents& documents, const ExpertPlace& place,
                                      EvaluationOptions options, const std::string& what) {
  const double started = steady_seconds();
  const auto seconds = [&] { return steady_seconds() - started; };
  options.progress = [&](int64_t done, int64_t all) {
    show_status(fmt::format("evaluating{}: {} of {} rows, {} left", what, done, all,
                            duration_text(seconds() * static_cast<double>(all - done) / static_cast<double>(done))));
  };
  const Activity activity(fmt::format("evaluating{}, --batch-rows {} at once", what, options.batch_rows));
  EvaluationResult result =
      evaluate({.model = model.model(), .dtype = model.dtype(), .device = place.device(), .backend = place.backend()},
               documents, options);
  clear_status();
  return result;
}

void add_json_option(CLI::App& command, std::string& json, const std::string& help) {
  command.add_option("--json", json, help)
      ->check([](const std::string& name) { return std::string(name.empty() ? "the name of a file is empty" : ""); })
      ->type_name("FILE");
}

}  // namespace moe
