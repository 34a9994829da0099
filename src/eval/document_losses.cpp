#include "eval/document_losses.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "formats/json.h"

namespace moe {
namespace {

int32_t index_of(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<int32_t>(found - names.begin());
  names.push_back(name);
  return static_cast<int32_t>(names.size() - 1);
}

}  // namespace

DocumentLosses document_losses(const Documents& documents, const std::vector<double>& nats) {
  MOE_CHECK(static_cast<int64_t>(nats.size()) == documents.count());
  DocumentLosses losses{.domains = documents.domain_names(), .documents = {}};
  for (int64_t document = 0; document < documents.count(); ++document) {
    losses.documents.push_back({.domain = documents.domain(document),
                                .index = document,
                                .tokens = count_targets(documents, document),
                                .bytes = documents.text_bytes(document),
                                .nats = nats[static_cast<size_t>(document)]});
  }
  return losses;
}

void add_document_nats(const BatchSource& source, int64_t step, const Batch& batch, const std::vector<float>& losses,
                       std::vector<double>& document_nats) {
  for (int64_t row = 0; row < batch.rows; ++row) {
    auto at = static_cast<size_t>(row * batch.sequence_length);
    for (const Piece& piece : source.row_of(step, row)) {
      double& nats = document_nats[static_cast<size_t>(piece.document)];
      for (const size_t end = at + static_cast<size_t>(piece.length); at < end; ++at) {
        nats += static_cast<double>(losses[at]);
      }
    }
  }
}

void check_predicts(const Documents& documents) {
  for (int64_t document = 0; document < documents.count(); ++document) {
    if (count_targets(documents, document) > 0) return;
  }
  fail("no document has two tokens or more, so there is nothing to predict; evaluate longer text");
}

std::string document_lines(const DocumentLosses& losses) {
  std::string text;
  for (const DocumentLoss& document : losses.documents) {
    const Json line = {{"domain", losses.domains[static_cast<size_t>(document.domain)]},
                       {"index", document.index},
                       {"tokens", document.tokens},
                       {"bytes", document.bytes},
                       {"nats", document.nats}};
    text += json_text(line) + "\n";
  }
  return text;
}

DocumentLosses read_document_lines(const fs::path& path) {
  DocumentLosses losses;
  std::istringstream text(read_file(path));
  int64_t number = 0;
  for (std::string line; std::getline(text, line);) {
    const std::string name = fmt::format("{}:{}", path.string(), ++number);
    const Json json = parse_json(line, name);
    DocumentLoss document{.domain = index_of(losses.domains, json_string(json, "domain", name)),
                          .index = json_int(json, "index", name),
                          .tokens = json_int(json, "tokens", name),
                          .bytes = json_int(json, "bytes", name),
                          .nats = json_number(json, "nats", name)};
    if (document.tokens < 0 || document.bytes < 0 || !std::isfinite(document.nats)) {
      fail(
          "{}: tokens and bytes must not be negative and nats must be finite; write the file again with `moe eval "
          "loss --documents`",
          name);
    }
    losses.documents.push_back(document);
  }
  if (losses.documents.empty()) fail("{} has no line, expected one for each document", path.string());
  return losses;
}

}  // namespace moe
