#include "train/start_checks.h"

#include <algorithm>

#include "base/error.h"
#include "checkpoint/model_path.h"
#include "checkpoint/open_model.h"
#include "train/samples.h"

namespace moe {
namespace {

void check_dataset(const Dataset& dataset, const RunConfig& run) {
  const std::string folder = dataset.name();
  const int64_t vocabulary = dataset.info().vocab_size;
  if (vocabulary > run.model.vocab_size) {
    fail("{} was made with a vocabulary of {}, but model.vocab_size is {}; set it to at least {}", folder, vocabulary,
         run.model.vocab_size, vocabulary);
  }
}

bool predicts(const Documents& documents) {
  for (int64_t document = 0; document < documents.count(); ++document) {
    if (count_targets(documents, document) > 0) return true;
  }
  return false;
}

void check_tokenizer(const RunConfig& run, const TrainingData& data) {
  const std::string folder = data.train.name();
  if (const int64_t ids = data.tokenizer.id_count(); ids > run.model.vocab_size) {
    fail("the tokenizer of {} has {} ids, but model.vocab_size is {}; set it to at least {}", folder, ids,
         run.model.vocab_size, ids);
  }
  const uint64_t made_with = data.train.info().tokenizer_fingerprint;
  if (made_with != 0 && tokenizer_fingerprint(data.train.folder()) != made_with) {
    fail("the tokenizer's files in {} are not those that its tokens were made with; make it again with `moe data`",
         folder);
  }
  if (data.valid != nullptr && data.valid->info().tokenizer_fingerprint != made_with) {
    fail("{} and {} were made with different tokenizers; make both with the same one", folder,
         data.valid->folder().string());
  }
}

/// model.from has the run's parameters, and its tokenizer made the data.
void check_loaded_model(const RunConfig& run, const TrainingData& data) {
  if (run.from.empty()) return;
  const auto source = open_weights(run.from);
  const std::vector<Parameter> wanted = parameter_table(run.model.base());
  const std::vector<Parameter>& found = source->table();
  for (size_t i = 0; i < std::max(wanted.size(), found.size()); ++i) {
    const bool same =
        i < wanted.size() && i < found.size() && wanted[i].name == found[i].name && wanted[i].shape == found[i].shape;
    if (same) continue;
    fail("{} has other parameters than the run file asks for, first {}; leave out the keys of [model] beside from",
         run.from, i < wanted.size() ? wanted[i].name : found[i].name);
  }
  if (!has_tokenizer(run.from)) return;
  const uint64_t made_with = data.train.info().tokenizer_fingerprint;
  if (made_with != 0 && tokenizer_fingerprint(run.from) != made_with) {
    fail(
        "{} was made with another tokenizer than that of {} (model.from); make it again with `moe data --tokenizer {}`",
        data.train.name(), run.from, run.from);
  }
}

}  // namespace

void check_before_start(const RunConfig& run, const TrainingData& data) {
  check_dataset(data.train, run);
  if (data.valid != nullptr) check_dataset(*data.valid, run);
  check_tokenizer(run, data);
  check_loaded_model(run, data);
  if (!predicts(data.train)) {
    fail("{} has no document of two tokens or more, so there is nothing to learn from it; make it from longer texts",
         data.train.name());
  }
  if (data.valid != nullptr && !predicts(EveryNth(*data.valid, run.evaluation.every_nth))) {
    fail("{}: none of the documents to evaluate (eval.every_nth = {}) has two tokens or more; evaluate longer texts",
         data.valid->folder().string(), run.evaluation.every_nth);
  }
  sample_prompts(data.tokenizer, run.model, run.sample);
}

}  // namespace moe
