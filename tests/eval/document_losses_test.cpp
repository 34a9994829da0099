// The file with a line for each document: exact, and refused where it is damaged.

#include "eval/document_losses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/eval/evaluation.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;

TEST(DocumentLosses, AreThoseOfAnEvaluationAndReadBackExactly) {
  TinyRuntime tiny;
  const MemoryDocuments documents = mixed_documents();
  const EvaluationResult result =
      evaluate(tiny.runtime, documents, {.sequence_length = 16, .batch_rows = 2, .keep_documents = true});
  const DocumentLosses losses = document_losses(documents, result.document_nats);
  double nats = 0;
  int64_t tokens = 0, bytes = 0;
  for (const DocumentLoss& document : losses.documents) {
    nats += document.nats;
    tokens += document.tokens;
    bytes += document.bytes;
  }
  EXPECT_NEAR(nats, result.all.nats, 1e-9);
  EXPECT_EQ(tokens, result.all.tokens);
  EXPECT_EQ(bytes, result.all.bytes);

  const test::TemporaryFolder folder;
  const fs::path file = folder / "documents.jsonl";
  write_file(file, document_lines(losses));
  const DocumentLosses read = read_document_lines(file);
  EXPECT_EQ(read.domains, losses.domains);
  ASSERT_EQ(read.documents.size(), losses.documents.size());
  for (size_t i = 0; i < read.documents.size(); ++i) {
    EXPECT_EQ(read.documents[i].domain, losses.documents[i].domain);
    EXPECT_EQ(read.documents[i].index, static_cast<int64_t>(i));
    EXPECT_EQ(read.documents[i].tokens, losses.documents[i].tokens);
    EXPECT_EQ(read.documents[i].bytes, losses.documents[i].bytes);
    EXPECT_EQ(read.documents[i].nats, losses.documents[i].nats) << "every bit";
  }
}

TEST(DocumentLosses, OfADamagedFileNameTheLine) {
  const test::TemporaryFolder folder;
  const fs::path file = folder / "documents.jsonl";
  const std::string good = R"({"domain": "a", "index": 0, "tokens": 3, "bytes": 9, "nats": 4.5})"
                           "\n";
  const auto error = [&](const std::string& text) {
    write_file(file, text);
    return error_of([&] { read_document_lines(file); });
  };
  EXPECT_THAT(error(""), testing::HasSubstr("has no line"));
  EXPECT_THAT(error(good + "{\"domain\""), testing::HasSubstr("documents.jsonl:2"));
  EXPECT_THAT(error(good + "{\"domain\": \"a\"}\n"), testing::HasSubstr("documents.jsonl:2"));
  EXPECT_THAT(error(good + R"({"domain": "a", "index": 1, "tokens": -3, "bytes": 9, "nats": 4.5})"
                           "\n"),
              testing::HasSubstr("documents.jsonl:2: tokens and bytes must not be negative"));
}

}  // namespace
}  // namespace moe
