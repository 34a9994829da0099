#pragma once
/// Cross-entropy of documents under a model: per token, and in bits per byte of text; and which experts their tokens
/// chose.
///
/// Documents are packed into rows as in training (data/packing.h): one longer than a row is cut, and the last token of
/// a piece still predicts the first of the next, so every token but a document's first is a target exactly once. With
/// BOS in front that is all of the text and the EOS behind it. The EOS counts, in bits per byte too: who stores a text
/// must also say where it ends.

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "data/documents.h"
#include "eval/choice_statistics.h"
#include "eval/routing_counts.h"
#include "infer/forward.h"

namespace moe {

struct EvaluationOptions {
  int64_t sequence_length;
  /// Rows computed together: memory and speed; the result is the same to the last bit.
  int64_t batch_rows = 1;
  bool count_choices = false;  ///< also fill EvaluationResult::choices,
  int64_t min_count = 10;      ///< by token for those that the documents have at least so often
  /// Called after each batch; may be empty.
  std::function<void(int64_t rows_done, int64_t rows_in_all)> progress = {};
};

/// Sums over the documents of one domain, or of all.
struct Score {
  std::string name;
  int64_t documents = 0;
  int64_t tokens = 0;  ///< targets: every token but each document's first
  int64_t bytes = 0;   ///< of UTF-8 text
  double nats = 0;     ///< the sum of the targets' cross-entropies
  /// Half the width of the 95% intervals of loss() and bits_per_byte(); NaN with fewer than two documents.
  ///
  /// Both are ratios r = sum y_d / sum x_d over n documents (y nats; x tokens or bytes), and tokens of one document are
  /// not independent, so documents are the sample:  1.96 / sum x_d * sqrt(n / (n - 1) * sum (y_d - r x_d)^2).
  /// It is a normal interval: too narrow for a handful of documents.
  double loss_error = std::numeric_limits<double>::quiet_NaN();
  double bits_per_byte_error = std::numeric_limits<double>::quiet_NaN();

  double loss() const;  ///< nats per target token
  double perplexity() const;
  double bits_per_byte() const;
};

struct EvaluationResult {
  std::vector<Score> domains;  ///< in the order of Documents::domain_names()
  Score all;
  RoutingCounts routing;          ///< over all tokens; groups are the domains. Empty for a model without MoE layers.
  ChoiceStatistics choices = {};  ///< over all tokens, where they were asked for and there are MoE layers
};

/// Evaluates one set of documents, again and again if need be: packs and allocates at construction, then never.
class Evaluator {
 public:
  /// All arguments must outlive it; the weights may change between runs. Refuses documents without a target.
  Evaluator(const Runtime& runtime, const Documents& documents, EvaluationOptions options);
  ~Evaluator();

  EvaluationResult run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Evaluator(...).run().
EvaluationResult evaluate(const Runtime& runtime, const Documents& documents, const EvaluationOptions& options);

}  // namespace moe
