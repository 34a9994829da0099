#pragma once
/// The text that a command evaluates models on: text files, or the folder of a dataset.

#include <optional>

#include "cli/expert_place.h"
#include "cli/text_sources.h"
#include "data/shards.h"
#include "eval/loss.h"
#include "infer/loaded_model.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// The text that a command evaluates: files, or a dataset. Use it on one thread at a time.
class EvaluatedText {
 public:
  /// Refuses what cannot be read. `options` must outlive it.
  explicit EvaluatedText(const TextSourceOptions& options);

  /// Tokenises the files for this model, or refuses a dataset that another tokenizer made. `folder` is the model's. The
  /// documents live until the next call.
  const Documents& documents(const std::string& folder, const ModelConfig& config, const Tokenizer& tokenizer,
                             ThreadPool& pool);
  /// True if the text can be read once only.
  bool from_standard_input() const;

 private:
  const TextSourceOptions& options_;
  std::optional<Dataset> dataset_;
  std::vector<TextSource> sources_;
  MemoryDocuments texts_;
};

/// --sequence-length, or the model's longest row where it is 0.
int64_t evaluated_row(int64_t sequence_length, const std::string& model, const ModelConfig& config);

/// Evaluates with a line of status, which calls it `what` behind "evaluating".
EvaluationResult evaluate_with_status(const LoadedModel& model, const Documents& documents, const ExpertPlace& place,
                                      EvaluationOptions options, const std::string& what);

/// Declares --json FILE.
void add_json_option(CLI::App& command, std::string& json, const std::string& help);

}  // namespace moe
