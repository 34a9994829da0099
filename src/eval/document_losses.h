#pragma once
/// The loss of each document of an evaluation, and its file: JSON lines, one for each document.

#include <string>
#include <vector>

#include "base/fs.h"
#include "data/batch_source.h"
#include "data/documents.h"

namespace moe {

struct DocumentLoss {
  int32_t domain = 0;  ///< index into DocumentLosses::domains
  int64_t index = 0;   ///< of the document among those evaluated, in the order of their files
  int64_t tokens = 0;  ///< targets
  int64_t bytes = 0;   ///< that the targets stand for
  double nats = 0;     ///< the sum of the targets' cross-entropies
};

struct DocumentLosses {
  std::vector<std::string> domains;
  std::vector<DocumentLoss> documents;
};

/// `nats` has the sum of each document (EvaluationResult::document_nats).
DocumentLosses document_losses(const Documents& documents, const std::vector<double>& nats);

/// Adds the losses [T] of a batch of a step to the sums of its documents. A document's sum has the order of its rows,
/// for any number of rows computed together.
void add_document_nats(const BatchSource& source, int64_t step, const Batch& batch, const std::vector<float>& losses,
                       std::vector<double>& document_nats);

/// Refuses documents without a target.
void check_predicts(const Documents& documents);

/// A line for each document: {"domain", "index", "tokens", "bytes", "nats"}. Numbers have all their digits.
std::string document_lines(const DocumentLosses& losses);

/// Reads such a file. Domains have the order of their first documents. An error names the file and the line.
DocumentLosses read_document_lines(const fs::path& path);

}  // namespace moe
