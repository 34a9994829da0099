#pragma once
/// The cross-entropy of documents under a model, per token and in bits per byte of text, and the experts that their
/// tokens chose.
///
/// Documents are packed into rows as in training (data/packing.h). A document longer than a row is cut. The last token
/// of a piece still predicts the first token of the next piece, so every token except a document's first is a target
/// exactly once. If there is a BOS, the targets are all of the text and the EOS. The EOS counts, also in bits per byte:
/// a stored text must also record where it ends.

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "data/documents.h"
#include "eval/choice_statistics.h"
#include "eval/routing_counts.h"
#include "infer/model_on_device.h"

namespace moe {

struct EvaluationOptions {
  int64_t sequence_length;
  /// The number of rows computed together. It changes memory and speed, but no bit of the result.
  int64_t batch_rows = 1;
  bool count_choices = false;   ///< also fill EvaluationResult::choices;
  int64_t min_count = 10;       ///< its statistics by token cover tokens that occur at least this often
  bool keep_documents = false;  ///< also fill EvaluationResult::document_nats
  /// Called after each batch; may be empty.
  std::function<void(int64_t rows_done, int64_t rows_in_all)> progress = {};
};

/// Sums over the documents of one domain, or over all documents.
struct Score {
  std::string name;
  int64_t documents = 0;
  int64_t tokens = 0;  ///< targets: every learned token except the first of each document
  int64_t bytes = 0;   ///< bytes of UTF-8 text
  double nats = 0;     ///< the sum of the targets' cross-entropies
  /// Half the width of the 95% intervals of loss() and bits_per_byte(). NaN with fewer than two documents.
  ///
  /// Both are ratios r = sum y_d / sum x_d over n documents (y nats; x tokens or bytes). Tokens of one document are not
  /// independent, so documents are the sample:  1.96 / sum x_d * sqrt(n / (n - 1) * sum (y_d - r x_d)^2). This is a
  /// normal interval, which is too narrow for a few documents.
  double loss_error = std::numeric_limits<double>::quiet_NaN();
  double bits_per_byte_error = std::numeric_limits<double>::quiet_NaN();

  double loss() const;  ///< nats per target token
  double perplexity() const;
  double bits_per_byte() const;
};

struct EvaluationResult {
  std::vector<Score> domains;  ///< in the order of Documents::domain_names()
  Score all;
  /// over all tokens; the groups are the domains. Empty for a model without MoE layers.
  RoutingCounts routing;
  ChoiceStatistics choices = {};           ///< over all tokens, if requested and if there are MoE layers
  std::vector<double> document_nats = {};  ///< for each document the sum of its targets' cross-entropies, if requested
};

/// Evaluates one set of documents, any number of times. Packs and allocates only at construction. Use it on one thread
/// at a time.
class Evaluator {
 public:
  /// All arguments must outlive it. The weights may change between runs. Refuses documents without a target.
  Evaluator(const ModelOnDevice& runtime, const Documents& documents, EvaluationOptions options);
  ~Evaluator();

  /// Throws an Error if a loss is not finite; it names the first layer whose output is not.
  EvaluationResult run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Evaluator(...).run().
EvaluationResult evaluate(const ModelOnDevice& runtime, const Documents& documents, const EvaluationOptions& options);

}  // namespace moe
