// Evaluation: packed and cut documents score as each piece alone, and nothing depends on how many rows are computed
// together.

#include <bit>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/scorer.h"
#include "nn/head.h"
#include "tests/eval/evaluation.h"
#include "tests/support/methods.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

constexpr int64_t kRow = 16;

// Compares doubles by their bits, NaN included.
void expect_same_bits(const Score& a, const Score& b) {
  const auto bits = [](double value) { return std::bit_cast<uint64_t>(value); };
  EXPECT_EQ(bits(a.nats), bits(b.nats)) << a.name;
  EXPECT_EQ(bits(a.loss_error), bits(b.loss_error)) << a.name;
  EXPECT_EQ(bits(a.bits_per_byte_error), bits(b.bits_per_byte_error)) << a.name;
  EXPECT_EQ(a.documents, b.documents);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.bytes, b.bytes);
}

void expect_same_bits(const EvaluationResult& a, const EvaluationResult& b) {
  ASSERT_EQ(a.domains.size(), b.domains.size());
  for (size_t i = 0; i < a.domains.size(); ++i) expect_same_bits(a.domains[i], b.domains[i]);
  expect_same_bits(a.all, b.all);
  EXPECT_EQ(a.routing.counts, b.routing.counts);
}

TEST(EvaluateLoss, OfPackedAndCutDocumentsIsThatOfEachPieceAlone) {
  TinyRuntime tiny;
  const MemoryDocuments documents = mixed_documents();
  const EvaluationResult result = evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = 3});
  ASSERT_EQ(result.domains.size(), 3u);
  std::vector<Score> expected(3);
  for (int64_t d = 0; d < documents.count(); ++d) {
    Score& score = expected[static_cast<size_t>(documents.domain(d))];
    score.documents += 1;
    score.tokens += documents.length(d) - 1;
    score.bytes += documents.text_bytes(d);
    score.nats += nats_alone(tiny.runtime, documents, d, kRow);
  }
  double all = 0;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(result.domains[i].name, documents.domain_names()[i]);
    EXPECT_EQ(result.domains[i].documents, expected[i].documents);
    EXPECT_EQ(result.domains[i].tokens, expected[i].tokens);
    EXPECT_EQ(result.domains[i].bytes, expected[i].bytes);
    EXPECT_NEAR(result.domains[i].nats / expected[i].nats, 1, 1e-6) << result.domains[i].name;
    all += expected[i].nats;
  }
  EXPECT_NEAR(result.all.nats / all, 1, 1e-6);
  EXPECT_EQ(result.all.documents, documents.count());
  EXPECT_EQ(result.all.tokens, 173 - 12);
}

TEST(EvaluateLoss, IsBitEqualForAnyNumberOfRowsAndThreads) {
  const MemoryDocuments documents = mixed_documents();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    TinyRuntime one(1, tiny_config(), dtype);
    TinyRuntime two(2, tiny_config(), dtype);
    const auto expected = evaluate(one.runtime, documents, {.sequence_length = kRow, .batch_rows = 1});
    for (const int64_t rows : {1, 2, 3, 8, 100}) {
      expect_same_bits(evaluate(two.runtime, documents, {.sequence_length = kRow, .batch_rows = rows}), expected);
    }
  }
}

// 8 Mi logits at once are 93 rows of them.
ModelConfig wide_vocabulary() {
  ModelConfig config = tiny_config();
  config.vocab_size = 90000;
  return config;
}

TEST(EvaluateLoss, IsBitEqualWhereTheHeadTakesSeveralChunks) {
  const MemoryDocuments documents = mixed_documents();
  TinyRuntime tiny(2, wide_vocabulary());
  const int64_t chunk = head_chunk_rows(tiny.runtime.model.config().vocab_size);
  ASSERT_LT(chunk, 173) << "the documents' tokens, computed together";
  const auto expected = evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = 1});
  expect_same_bits(evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = 100}), expected);
}

TEST(EvaluateLoss, ALogitsChunkHoldsTheRowsThatItNames) {
  TinyRuntime tiny(2, wide_vocabulary());
  const int64_t vocabulary = tiny.runtime.model.config().vocab_size, chunk = head_chunk_rows(vocabulary);
  std::vector<int32_t> ids;
  const Random random(5, 1);
  for (uint64_t i = 0; i < 200; ++i) {
    ids.push_back(static_cast<int32_t>(random.below(i, static_cast<uint64_t>(vocabulary))));
  }
  const Batch batch = single_document(ids);
  Scorer scorer(tiny.runtime, static_cast<int64_t>(ids.size()));
  const std::vector<float> losses = scorer.losses(batch);
  int64_t next = 0, chunks = 0;
  scorer.logits(batch, [&](int64_t first, int64_t rows, const float* values) {
    ASSERT_EQ(first, next);
    ASSERT_LE(rows, chunk);
    for (int64_t r = 0; r < rows; ++r) {
      const float* const logits = values + r * vocabulary;
      const int32_t target = batch.targets[static_cast<size_t>(first + r)];
      if (target < 0) continue;
      double sum = 0;
      for (int64_t v = 0; v < vocabulary; ++v) sum += std::exp(static_cast<double>(logits[v]));
      EXPECT_NEAR(std::log(sum) - static_cast<double>(logits[target]), losses[static_cast<size_t>(first + r)], 1e-4);
    }
    next += rows;
    ++chunks;
  });
  EXPECT_EQ(next, 200);
  EXPECT_EQ(chunks, 3);
}

// Rotary positions turn by the model's own base, not by the default.
TEST(EvaluateLoss, TurnsPositionsByTheModelsOwnBase) {
  ModelConfig config = tiny_config();
  config.rope_theta = 500;
  TinyRuntime tiny(2, config), other;
  const MemoryDocuments documents = mixed_documents();
  const EvaluationOptions options{.sequence_length = kRow, .batch_rows = 3};
  double alone = 0;
  for (int64_t d = 0; d < documents.count(); ++d) alone += nats_by_training(tiny, documents, d, kRow);
  EXPECT_NEAR(evaluate(tiny.runtime, documents, options).all.nats / alone, 1, 1e-6);
  EXPECT_GT(std::abs(evaluate(other.runtime, documents, options).all.nats / alone - 1), 1e-4) << "it does matter";
}

TEST(EvaluateLoss, GivesPerplexityAndBitsPerByteOfTheSameNats) {
  TinyRuntime tiny;
  const Score score = evaluate(tiny.runtime, mixed_documents(), {.sequence_length = kRow}).all;
  EXPECT_DOUBLE_EQ(score.perplexity(), std::exp(score.nats / static_cast<double>(score.tokens)));
  EXPECT_DOUBLE_EQ(score.bits_per_byte(), score.nats / std::log(2.0) / static_cast<double>(score.bytes));
}

// The variance of a ratio by documents, by another road: the jackknife's first-order terms, leaving no document out but
// weighting each one a little more (the derivative of the ratio in a document's weight).
double error_by_weights(const std::vector<double>& y, const std::vector<double>& x) {
  const double delta = 1e-6;
  const double sum_y = std::accumulate(y.begin(), y.end(), 0.0);
  const double sum_x = std::accumulate(x.begin(), x.end(), 0.0);
  double variance = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double up = (sum_y + delta * y[i]) / (sum_x + delta * x[i]);
    const double down = (sum_y - delta * y[i]) / (sum_x - delta * x[i]);
    variance += std::pow((up - down) / (2 * delta), 2);
  }
  const auto n = static_cast<double>(y.size());
  return 1.959964 * std::sqrt(variance * n / (n - 1));
}

TEST(EvaluateLoss, HasTheIntervalOfARatioOverDocuments) {
  TinyRuntime tiny;
  const MemoryDocuments documents = mixed_documents();
  std::vector<double> nats, tokens, bytes;
  for (int64_t d = 0; d < documents.count(); ++d) {
    nats.push_back(nats_alone(tiny.runtime, documents, d, kRow));
    tokens.push_back(static_cast<double>(documents.length(d) - 1));
    bytes.push_back(static_cast<double>(documents.text_bytes(d)));
  }
  const Score all = evaluate(tiny.runtime, documents, {.sequence_length = kRow}).all;
  EXPECT_NEAR(all.loss_error / error_by_weights(nats, tokens), 1, 1e-4);
  EXPECT_NEAR(all.bits_per_byte_error * std::log(2.0) / error_by_weights(nats, bytes), 1, 1e-4);
}

TEST(EvaluateLoss, OfOneDocumentHasNoInterval) {
  TinyRuntime tiny;
  const auto result = evaluate(tiny.runtime, make_documents({{"a", 30}}), {.sequence_length = kRow});
  EXPECT_TRUE(std::isnan(result.all.loss_error));
  EXPECT_TRUE(std::isnan(result.all.bits_per_byte_error));
  EXPECT_GT(result.all.loss(), 0);
}

TEST(EvaluateLoss, OfADomainIsThatOfItsDocumentsAlone) {
  TinyRuntime tiny;
  const MemoryDocuments documents = mixed_documents();
  const auto together = evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = 4});
  for (size_t domain = 0; domain < together.domains.size(); ++domain) {
    MemoryDocuments own;
    const int32_t index = own.add_domain(documents.domain_names()[domain]);
    for (int64_t d = 0; d < documents.count(); ++d) {
      if (documents.domain(d) != static_cast<int32_t>(domain)) continue;
      std::vector<int32_t> ids(static_cast<size_t>(documents.length(d)));
      documents.copy_tokens(d, 0, documents.length(d), ids.data());
      own.add(ids, index, documents.text_bytes(d));
    }
    const auto alone = evaluate(tiny.runtime, own, {.sequence_length = kRow, .batch_rows = 2});
    EXPECT_NEAR(alone.all.nats, together.domains[domain].nats, 1e-9 * alone.all.nats);
    for (int64_t layer = 0; layer < alone.routing.layers; ++layer) {
      const auto part = together.routing.of(layer, static_cast<int64_t>(domain));
      EXPECT_EQ(alone.routing.of(layer), std::vector<int64_t>(part.begin(), part.end()));
    }
  }
}

TEST(EvaluateLoss, CountsEveryTokensChoicesOnce) {
  TinyRuntime tiny;
  const MemoryDocuments documents = mixed_documents();
  const RoutingCounts routing = evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = 2}).routing;
  ASSERT_EQ(routing.layers, 2);
  ASSERT_EQ(routing.groups, 3);
  ASSERT_EQ(routing.experts, 6);
  std::vector<int64_t> tokens(3, 0);
  for (int64_t d = 0; d < documents.count(); ++d)
    tokens[static_cast<size_t>(documents.domain(d))] += documents.length(d);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t domain = 0; domain < 3; ++domain) {
      const auto counts = routing.of(layer, domain);
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), 2 * tokens[static_cast<size_t>(domain)]);
    }
  }
}

TEST(EvaluateLoss, CountsChoicesOfHundredsOfDomainsAsOfEachAlone) {
  TinyRuntime tiny;
  constexpr int kDomains = 300;
  std::vector<std::string> names;
  std::vector<TestDocument> list;
  for (int d = 0; d < kDomains; ++d) names.push_back(fmt::format("domain {}", d));
  for (int i = 0; i < 2 * kDomains; ++i)
    list.push_back({names[static_cast<size_t>(i * 7 % kDomains)].c_str(), 2 + i % 5});
  const MemoryDocuments documents = make_documents(list);
  const EvaluationResult one = evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = 1});
  ASSERT_EQ(one.routing.groups, kDomains);
  for (const int64_t rows : {7, 1000}) {
    const EvaluationResult many = evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = rows});
    expect_same_bits(many, one);
  }
  for (const int64_t domain : {0, 1, 63, 64, 65, 299}) {
    MemoryDocuments alone;
    const auto& name = documents.domain_names()[static_cast<size_t>(domain)];
    for (int64_t d = 0; d < documents.count(); ++d) {
      if (documents.domain(d) != domain) continue;
      std::vector<int32_t> ids(static_cast<size_t>(documents.length(d)));
      documents.copy_tokens(d, 0, documents.length(d), ids.data());
      alone.add(std::move(ids), alone.add_domain(name), documents.text_bytes(d));
    }
    const EvaluationResult found = evaluate(tiny.runtime, alone, {.sequence_length = kRow, .batch_rows = 2});
    for (int64_t layer = 0; layer < 2; ++layer)
      EXPECT_THAT(one.routing.of(layer, domain), testing::ElementsAreArray(found.routing.of(layer, 0)));
    EXPECT_EQ(one.domains[static_cast<size_t>(domain)].tokens, found.all.tokens);
    EXPECT_NEAR(one.domains[static_cast<size_t>(domain)].nats / found.all.nats, 1, 1e-6);
  }
}

TEST(EvaluateLoss, CountsDroppedChoicesOfAllBatches) {
  const ModelConfig config = method_case("gshard_original").config;
  TinyRuntime tiny(2, config);
  const MemoryDocuments documents = mixed_documents();
  const auto dropped = [&](int64_t rows) {
    return evaluate(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = rows}).routing.dropped;
  };
  const auto expected = dropped(1);
  ASSERT_EQ(static_cast<int64_t>(expected.size()), config.moe_layers());
  EXPECT_GT(std::accumulate(expected.begin(), expected.end(), int64_t{0}), 0);
  for (const int64_t rows : {2, 5, 100}) EXPECT_EQ(dropped(rows), expected) << rows;
}

TEST(EveryNth, IsTheDocumentsWhoseNumberItDivides) {
  const MemoryDocuments all = mixed_documents();
  for (const int64_t n : {1, 2, 3, 5, 12, 40}) {
    const EveryNth some(all, n);
    std::vector<int64_t> chosen;
    for (int64_t d = 0; d < all.count(); ++d) {
      if (d % n == 0) chosen.push_back(d);
    }
    ASSERT_EQ(some.count(), static_cast<int64_t>(chosen.size())) << n;
    for (int64_t i = 0; i < some.count(); ++i) {
      const int64_t d = chosen[static_cast<size_t>(i)];
      ASSERT_EQ(some.length(i), all.length(d));
      EXPECT_EQ(some.domain(i), all.domain(d));
      EXPECT_EQ(some.text_bytes(i), all.text_bytes(d));
      std::vector<int32_t> a(static_cast<size_t>(some.length(i))), b = a;
      some.copy_tokens(i, 0, some.length(i), a.data());
      all.copy_tokens(d, 0, all.length(d), b.data());
      EXPECT_EQ(a, b);
    }
    EXPECT_EQ(some.domain_names(), all.domain_names());
  }
}

TEST(EvaluateLoss, OfADenseModelHasNoRouting) {
  ModelConfig dense = tiny_config();
  dense.n_routed_experts = 0;
  TinyRuntime tiny(1, dense);
  const MemoryDocuments documents = mixed_documents();
  const auto result = evaluate(tiny.runtime, documents, {.sequence_length = kRow});
  EXPECT_EQ(result.routing.layers, 0);
  EXPECT_TRUE(result.routing.counts.empty());
  EXPECT_NEAR(result.domains[1].nats,
              nats_alone(tiny.runtime, documents, 1, kRow) + nats_alone(tiny.runtime, documents, 4, kRow) +
                  nats_alone(tiny.runtime, documents, 7, kRow) + nats_alone(tiny.runtime, documents, 10, kRow),
              1e-4);
}

TEST(Evaluator, SeesChangedWeightsAllocatesOnceAndChangesNothing) {
  TinyRuntime tiny;
  const MemoryDocuments documents = mixed_documents();
  Evaluator evaluator(tiny.runtime, documents, {.sequence_length = kRow, .batch_rows = 2});
  const int64_t allocations = tiny.device->allocations();
  const auto before = evaluator.run();
  expect_same_bits(evaluator.run(), before);
  tiny.step.run.initialize(2, 0.3);
  const auto after = evaluator.run();
  EXPECT_NE(after.all.nats, before.all.nats);
  tiny.step.run.initialize(1, 0.3);
  expect_same_bits(evaluator.run(), before);
  EXPECT_EQ(tiny.device->allocations(), allocations);
}

TEST(Evaluator, ReportsItsProgress) {
  TinyRuntime tiny;
  std::vector<int64_t> done;
  int64_t rows = 0;
  evaluate(tiny.runtime, mixed_documents(),
           {.sequence_length = kRow, .batch_rows = 4, .progress = [&](int64_t n, int64_t all) {
              done.push_back(n);
              rows = all;
            }});
  ASSERT_FALSE(done.empty());
  EXPECT_EQ(done.back(), rows);
  EXPECT_EQ(done.front(), 4);
}

TEST(Evaluator, RefusesDocumentsWithoutATarget) {
  TinyRuntime tiny;
  const auto error = [&](const MemoryDocuments& documents) {
    return test::error_of([&] { evaluate(tiny.runtime, documents, {.sequence_length = kRow}); });
  };
  EXPECT_THAT(error(make_documents({{"a", 1}, {"b", 1}})), testing::HasSubstr("nothing to predict"));
  EXPECT_THAT(error(MemoryDocuments{}), testing::HasSubstr("no tokens"));
}

TEST(EvaluateLoss, OfNumbersThatOverflowIsAnErrorThatNamesTheLayer) {
  const MemoryDocuments documents = mixed_documents();
  const int64_t layers = tiny_config().num_hidden_layers;
  for (int64_t layer = 0; layer < layers; ++layer) {
    TinyRuntime tiny;
    for (size_t i = 0; i < tiny.step.run.table().size(); ++i) {
      const Parameter& parameter = tiny.step.run.table()[i];
      const bool of_ffn = parameter.kind == ParameterKind::dense_ffn || parameter.kind == ParameterKind::shared_experts;
      if (parameter.layer != layer || !of_ffn) continue;
      tiny.backend->run(Fill{.x = tiny.step.run.parameters()[i], .value = 1e30F});  // finite, but not their product
    }
    for (const int64_t rows : {1, 3}) {
      EXPECT_THAT(
          test::error_of<Error>(
              [&] { evaluate(tiny.runtime, documents, {.sequence_length = 16, .batch_rows = rows}); }),
          testing::HasSubstr(fmt::format("the outputs of layer {} (of {} from 0) are not finite", layer, layers)));
    }
  }
}

}  // namespace
}  // namespace moe
