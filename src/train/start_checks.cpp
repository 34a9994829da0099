#include "train/start_checks.h"

#include <algorithm>

#include "base/error.h"
#include "base/units.h"
#include "checkpoint/model_path.h"
#include "checkpoint/open_model.h"
#include "train/model_tokenizer.h"
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

/// Pairs are learned by preference alone.
void check_kind(const Dataset& dataset, const RunConfig& run) {
  const bool wanted = run.step.objective == Objective::dpo;
  if (dataset.info().pairs == wanted) return;
  if (wanted) {
    fail("{} has no preferences, which train.objective = dpo learns from; make a dataset with `moe data --preferences`",
         dataset.name());
  }
  fail("{} is a dataset of preferences; set train.objective = \"dpo\", or make one of texts or conversations",
       dataset.name());
}

bool has_prompt(const Documents& documents, int64_t document) {
  std::vector<uint8_t> learned(static_cast<size_t>(documents.length(document)));
  documents.copy_marks(document, 0, documents.length(document), learned.data());
  return std::find(learned.begin(), learned.end(), 0) != learned.end();
}

/// A text may be cut into rows. A conversation may not: the second row would have an answer without its question.
/// Packing compares pairs itself.
void check_lengths(const Documents& documents, const Dataset& dataset, int64_t row) {
  if (dataset.info().answer_ends.empty() || dataset.info().pairs) return;
  int64_t longer = 0, longest = 0;
  for (int64_t document = 0; document < documents.count(); ++document) {
    const int64_t length = documents.length(document);
    if (length <= row || !has_prompt(documents, document)) continue;
    ++longer;
    longest = std::max(longest, length);
  }
  if (longer == 0) return;
  fail(
      "{} has {} of more than the {} of a row (data.sequence_length), the longest of {}; use longer rows, or make the "
      "dataset with --max-tokens {}",
      dataset.name(), counted(longer, "conversation"), counted(row, "token"), longest, row);
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

/// model.from's tokenizer made the data, perhaps with new tokens.
void check_model_tokenizer(const RunConfig& run, const TrainingData& data) {
  const TokenizerMatch match = match_tokenizer(data.train, run.from);
  if (match == TokenizerMatch::same || match == TokenizerMatch::grown) return;
  const int64_t made_for = data.train.info().vocab_size, ids = read_model_config(run.from).vocab_size;
  if (match == TokenizerMatch::unknown) {
    if (made_for <= ids) return;
    fail(
        "{} has {} ids, but {} (model.from) has a vocabulary of {} and no tokenizer to compare with; make the dataset "
        "with the model's tokenizer",
        data.train.name(), made_for, run.from, ids);
  }
  fail("{} was made with another tokenizer than that of {} (model.from); make it again with `moe data --tokenizer {}`",
       data.train.name(), run.from, run.from);
}

/// New tokens learn nothing if embedding and head rest, and adapters and lists of experts do not carry their rows.
void check_new_tokens(const RunConfig& run, const TrainingData& data) {
  const NewTokens tokens = new_tokens(run, data.train);
  if (tokens.first == tokens.end) return;
  const auto refuse = [&](std::string_view found, std::string_view advice) {
    fail("{} has {}, whose rows in embedding and head {}; {}, or use a dataset without new tokens", data.train.name(),
         counted(tokens.end - tokens.first, "new token"), found, advice);
  };
  if (run.step.parameters != TrainedPart::all) {
    refuse(fmt::format("belong to no part of train.parameters = \"{}\"", name(run.step.parameters)),
           "set train.parameters = \"all\"");
  }
  for (const Parameter& parameter : training_table(run.model, run.step)) {
    if (parameter.is_by_token() && !parameter.trained()) {
      refuse("would not train", fmt::format("leave \"{}\" out of train.freeze", parameter.name));
    }
  }
}

/// model.from has the run's parameters. Those by token may lack the rows of new tokens.
void check_parameters(const RunConfig& run) {
  const auto source = open_weights(run.from);
  const std::vector<Parameter> wanted = parameter_table(run.model.base());
  const std::vector<Parameter>& found = source->table();
  for (size_t i = 0; i < std::max(wanted.size(), found.size()); ++i) {
    const bool same_name = i < wanted.size() && i < found.size() && wanted[i].name == found[i].name;
    if (same_name && wanted[i].shape == found[i].shape) continue;
    const int64_t old = source->config().vocab_size;
    const bool grows =
        same_name && found[i].shape[0] == old && wanted[i].shape == found[i].shape.with_first(run.model.vocab_size);
    if (grows && (found[i].role == ParameterRole::embedding || found[i].role == ParameterRole::head)) continue;
    if (grows) {
      fail(
          "{} has a row for each of the {} tokens in {}, so it cannot get new tokens (model.routing = {}); use a "
          "dataset without them",
          run.from, old, found[i].name, run.model.routing_row().name);
    }
    fail("{} has other parameters than the run file asks for, first {}; leave out the keys of [model] beside from",
         run.from, i < wanted.size() ? wanted[i].name : found[i].name);
  }
}

/// A resumed run does not need the model any more.
void check_loaded_model(const RunConfig& run, const TrainingData& data) {
  if (run.from.empty() || !run.kept_in.empty()) return;
  check_model_tokenizer(run, data);
  check_new_tokens(run, data);
  check_parameters(run);
}

}  // namespace

EveryNth evaluated_documents(const RunConfig& run, const Dataset& valid) {
  return EveryNth(valid, run.evaluation.every_nth, valid.info().pairs ? 2 : 1);
}

void check_before_start(const RunConfig& run, const TrainingData& data) {
  for (const Dataset* const dataset : {&data.train, data.valid}) {
    if (dataset == nullptr) continue;
    check_dataset(*dataset, run);
    check_kind(*dataset, run);
  }
  check_tokenizer(run, data);
  check_loaded_model(run, data);
  if (!predicts(data.train)) {
    fail("{} has no document of two tokens or more, so there is nothing to learn from it; make it from longer texts",
         data.train.name());
  }
  if (data.valid != nullptr && !predicts(evaluated_documents(run, *data.valid))) {
    fail("{}: none of the documents to evaluate (eval.every_nth = {}) has two tokens or more; evaluate longer texts",
         data.valid->folder().string(), run.evaluation.every_nth);
  }
  check_lengths(data.train, data.train, run.data.sequence_length);
  if (data.valid != nullptr) {
    check_lengths(evaluated_documents(run, *data.valid), *data.valid, run.data.sequence_length);
  }
  sample_prompts(data.train, data.tokenizer, run.model, run.sample);
}

}  // namespace moe
