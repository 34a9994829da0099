#include "data/batch_source.h"

#include <map>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/peak_memory.h"

namespace moe {
namespace {

using testing::ElementsAre;

// Document d holds tokens d * 1000, d * 1000 + 1, ..., so that a token says where it comes from.
constexpr int32_t kStride = 1000;

MemoryDocuments documents_of(const std::vector<int>& lengths) {
  MemoryDocuments documents;
  for (const char* name : {"even", "odd"}) documents.add_domain(name);
  for (size_t d = 0; d < lengths.size(); ++d) {
    std::vector<int32_t> tokens(static_cast<size_t>(lengths[d]));
    for (size_t t = 0; t < tokens.size(); ++t) tokens[t] = static_cast<int32_t>(d) * kStride + static_cast<int32_t>(t);
    documents.add(tokens, static_cast<int32_t>(d % 2), lengths[d]);
  }
  return documents;
}

MemoryDocuments many_documents(uint32_t seed = 1) {
  std::mt19937 generator(seed);
  std::vector<int> lengths(150);
  for (int& length : lengths) length = 1 + static_cast<int>(generator() % 90);
  return documents_of(lengths);
}

void expect_equal(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_EQ(a.segment_start, b.segment_start);
  EXPECT_EQ(a.segment_id, b.segment_id);
  EXPECT_EQ(a.domain, b.domain);
  EXPECT_EQ(a.segment_tokens, b.segment_tokens);
  EXPECT_EQ(a.num_tokens, b.num_tokens);
  EXPECT_EQ(a.num_targets, b.num_targets);
}

TEST(BatchSource, OneRowLooksAsDescribed) {
  const auto documents = documents_of({3, 4});
  const BatchSource source(documents, {.sequence_length = 8, .rows_per_step = 1, .order = DataOrder::once});
  const Batch batch = source.rows(0, 0, 1);
  EXPECT_THAT(batch.tokens, ElementsAre(0, 1, 2, 1000, 1001, 1002, 1003, 0));
  EXPECT_THAT(batch.targets, ElementsAre(1, 2, -1, 1001, 1002, 1003, -1, -1));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 0, 1, 2, 3, 0));
  EXPECT_THAT(batch.segment_start, ElementsAre(0, 0, 0, 3, 3, 3, 3, -1));
  EXPECT_THAT(batch.segment_id, ElementsAre(0, 0, 0, 1, 1, 1, 1, -1));
  EXPECT_THAT(batch.domain, ElementsAre(0, 0, 0, 1, 1, 1, 1, -1));
  EXPECT_THAT(batch.segment_tokens, ElementsAre(3, 4));
  EXPECT_EQ(batch.num_tokens, 7);
  EXPECT_EQ(batch.num_targets, 5);
}

TEST(BatchSource, ATokenThatIsOnlyReadIsATargetOfNothing) {
  MemoryDocuments documents;
  documents.add_domain("d");
  documents.add({10, 11, 12, 13, 14, 15}, {0, 0, 1, 1, 0, 1}, 0, 6);
  documents.add({20, 21}, 0, 2);
  for (const int64_t length : {8, 3}) {
    const BatchSource source(documents, {.sequence_length = length, .rows_per_step = 3, .order = DataOrder::once});
    const Batch batch = source.rows(0, 0, source.rows_in_step(0));
    std::map<int32_t, int32_t> targets;
    for (size_t i = 0; i < batch.tokens.size(); ++i) targets[batch.tokens[i]] = batch.targets[i];
    targets.erase(0);  // padding
    EXPECT_EQ(targets, (std::map<int32_t, int32_t>{
                           {10, -1}, {11, 12}, {12, 13}, {13, -1}, {14, 15}, {15, -1}, {20, 21}, {21, -1}}))
        << "rows of " << length;
    EXPECT_EQ(batch.num_targets, 4);
    EXPECT_EQ(source.totals(0).targets, 4);
    EXPECT_EQ(source.totals(0).tokens, 8);
  }
}

TEST(BatchSource, ADocumentCutByARowsEndIsTwoSegmentsAndLosesNoTarget) {
  const auto documents = documents_of({7});
  const BatchSource source(documents, {.sequence_length = 4, .rows_per_step = 2, .order = DataOrder::once});
  const Batch batch = source.rows(0, 0, 2);
  EXPECT_THAT(batch.tokens, ElementsAre(0, 1, 2, 3, 4, 5, 6, 0));
  EXPECT_THAT(batch.targets, ElementsAre(1, 2, 3, 4, 5, 6, -1, -1));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 3, 0, 1, 2, 0));
  EXPECT_THAT(batch.segment_start, ElementsAre(0, 0, 0, 0, 4, 4, 4, -1));
  EXPECT_THAT(batch.segment_tokens, ElementsAre(4, 3));
  EXPECT_EQ(batch.num_targets, 6);
}

TEST(BatchSource, ADocumentThatEndsWithItsRowHasNoTargetThere) {
  const auto documents = documents_of({4, 4});
  const BatchSource source(documents, {.sequence_length = 4, .rows_per_step = 2, .order = DataOrder::once});
  EXPECT_THAT(source.rows(0, 0, 2).targets, ElementsAre(1, 2, 3, -1, 1001, 1002, 1003, -1));
}

// What the fields must be, told from the tokens alone (every document begins with a token that is a multiple of
// kStride, and no token of document 0 is used, so that 0 is padding).
void check_fields(const Batch& batch, const Documents& documents) {
  const int64_t sequence_length = batch.sequence_length;
  int64_t tokens = 0, targets = 0, segments = 0;
  for (int64_t row = 0; row < batch.rows; ++row) {
    bool padding = false;
    int64_t start = -1;
    for (int64_t t = 0; t < sequence_length; ++t) {
      const int64_t i = row * sequence_length + t;
      const int32_t token = batch.tokens[i];
      if (token == 0) {
        padding = true;
        ASSERT_EQ(batch.targets[i], -1);
        ASSERT_EQ(batch.positions[i], 0);
        ASSERT_EQ(batch.segment_start[i], -1);
        ASSERT_EQ(batch.segment_id[i], -1);
        ASSERT_EQ(batch.domain[i], -1);
        continue;
      }
      ASSERT_FALSE(padding) << "padding stands before tokens";
      const int32_t document = token / kStride;
      const bool continues = t > 0 && batch.tokens[i - 1] == token - 1 && token % kStride != 0;
      if (!continues) {
        start = i;
        ++segments;
      }
      ++tokens;
      const bool last = token % kStride + 1 == documents.length(document);
      targets += last ? 0 : 1;
      ASSERT_EQ(batch.targets[i], last ? -1 : token + 1);
      ASSERT_EQ(batch.positions[i], i - start);
      ASSERT_EQ(batch.segment_start[i], start);
      ASSERT_EQ(batch.segment_id[i], segments - 1);
      ASSERT_EQ(batch.domain[i], document % 2);
    }
  }
  ASSERT_EQ(batch.num_tokens, tokens);
  ASSERT_EQ(batch.num_targets, targets);
  ASSERT_EQ(static_cast<int64_t>(batch.segment_tokens.size()), segments);
  std::vector<int32_t> lengths(batch.segment_tokens.size());
  for (const int32_t id : batch.segment_id) {
    if (id >= 0) ++lengths[static_cast<size_t>(id)];
  }
  ASSERT_EQ(batch.segment_tokens, lengths);
}

MemoryDocuments without_zero(uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<int> lengths = {0};
  for (int i = 0; i < 120; ++i) lengths.push_back(1 + static_cast<int>(generator() % 90));
  return documents_of(lengths);
}

TEST(BatchSource, FieldsFollowFromTheTokensForManyShapes) {
  for (const int64_t sequence_length : {1, 2, 13, 64, 200}) {
    for (const int64_t rows_per_step : {1, 3, 8}) {
      for (const DataOrder order : {DataOrder::once, DataOrder::shuffled_epochs}) {
        const auto documents = without_zero(static_cast<uint32_t>(sequence_length));
        const BatchSource source(
            documents, {.sequence_length = sequence_length, .rows_per_step = rows_per_step, .seed = 3, .order = order});
        for (int64_t step = 0; step < source.steps_per_epoch(); ++step) {
          check_fields(source.rows(step, 0, source.rows_in_step(step)), documents);
        }
      }
    }
  }
}

// How often each token of the documents occurs in rows [first, first + count) of the run.
std::map<int32_t, int> occurrences(const BatchSource& source, int64_t first, int64_t count) {
  std::map<int32_t, int> seen;
  for (int64_t row = first; row < first + count; ++row) {
    const Batch batch = source.rows(row / source.options().rows_per_step, row % source.options().rows_per_step, 1);
    for (size_t i = 0; i < batch.tokens.size(); ++i) {
      if (batch.segment_id[i] >= 0) ++seen[batch.tokens[i]];
    }
  }
  return seen;
}

TEST(BatchSource, EveryTokenOccursOncePerEpochForStepsThatDoNotDivideIt) {
  const auto documents = many_documents();
  const BatchSource source(documents, {.sequence_length = 50, .rows_per_step = 7, .seed = 5});
  int64_t tokens = 0;
  for (int64_t d = 0; d < documents.count(); ++d) tokens += documents.length(d);
  EXPECT_EQ(source.tokens_per_epoch(), tokens);
  ASSERT_NE(source.rows_per_epoch() % 7, 0);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const auto seen = occurrences(source, epoch * source.rows_per_epoch(), source.rows_per_epoch());
    EXPECT_EQ(static_cast<int64_t>(seen.size()), tokens);
    for (const auto& [token, count] : seen) ASSERT_EQ(count, 1) << "token " << token << " in epoch " << epoch;
  }
}

TEST(BatchSource, OnePassHoldsEveryTokenOnceAndALastStepWithFewerRows) {
  const auto documents = many_documents();
  const BatchSource source(documents, {.sequence_length = 50, .rows_per_step = 7, .order = DataOrder::once});
  int64_t rows = 0, tokens = 0;
  for (int64_t step = 0; step < source.steps_per_epoch(); ++step) {
    rows += source.rows_in_step(step);
    tokens += source.rows(step, 0, source.rows_in_step(step)).num_tokens;
  }
  EXPECT_EQ(rows, source.rows_per_epoch());
  EXPECT_EQ(tokens, source.tokens_per_epoch());
  EXPECT_EQ(source.rows_in_step(source.steps_per_epoch() - 1), rows % 7);
  EXPECT_EQ(source.rows_in_step(source.steps_per_epoch()), 0);
}

TEST(BatchSource, AStepIsTheSameForAnyMicrobatches) {
  const auto documents = many_documents();
  const BatchSource source(documents, {.sequence_length = 40, .rows_per_step = 8, .seed = 1});
  for (const int64_t step : {0, 3, 20}) {
    const Batch whole = source.rows(step, 0, 8);
    for (const int64_t rows : {1, 2, 4}) {
      Batch joined;
      joined.rows = 8;
      for (int64_t first = 0; first < 8; first += rows) {
        const Batch part = source.rows(step, first, rows);
        const auto shift = [](std::vector<int32_t>& to, const std::vector<int32_t>& from, int64_t by) {
          for (const int32_t value : from) to.push_back(value < 0 ? value : value + static_cast<int32_t>(by));
        };
        shift(joined.segment_start, part.segment_start, first * 40);
        shift(joined.segment_id, part.segment_id, static_cast<int64_t>(joined.segment_tokens.size()));
        shift(joined.tokens, part.tokens, 0);
        shift(joined.targets, part.targets, 0);
        shift(joined.positions, part.positions, 0);
        shift(joined.domain, part.domain, 0);
        shift(joined.segment_tokens, part.segment_tokens, 0);
        joined.num_tokens += part.num_tokens;
        joined.num_targets += part.num_targets;
      }
      expect_equal(joined, whole);
    }
  }
}

TEST(BatchSource, AStepDependsOnSeedAndNumberAloneNotOnWhatWasAskedBefore) {
  const auto documents = many_documents();
  const BatchSource::Options options{.sequence_length = 40, .rows_per_step = 8, .seed = 1};
  const BatchSource straight(documents, options);
  const BatchSource jumping(documents, options);
  std::vector<Batch> steps;
  for (int64_t step = 0; step < 40; ++step) steps.push_back(straight.rows(step, 0, 8));
  for (const int64_t step : {39, 0, 17, 17, 1, 38})
    expect_equal(jumping.rows(step, 0, 8), steps[static_cast<size_t>(step)]);
}

TEST(BatchSource, SeedsAndEpochsHaveDifferentOrders) {
  const auto documents = many_documents();
  const auto epoch_of = [&](uint64_t seed, int64_t epoch) {
    const BatchSource source(documents, {.sequence_length = 40, .rows_per_step = 1, .seed = seed});
    std::vector<int32_t> tokens;
    for (int64_t row = 0; row < source.rows_per_epoch(); ++row) {
      const Batch batch = source.rows(epoch * source.rows_per_epoch() + row, 0, 1);
      tokens.insert(tokens.end(), batch.tokens.begin(), batch.tokens.end());
    }
    return tokens;
  };
  std::set<std::vector<int32_t>> orders;
  for (const uint64_t seed : {0, 1, 2}) {
    for (const int64_t epoch : {0, 1, 2}) orders.insert(epoch_of(seed, epoch));
  }
  EXPECT_EQ(orders.size(), 9u);
}

TEST(BatchSource, TotalsEqualTheStepsCounts) {
  const auto documents = many_documents();
  for (const DataOrder order : {DataOrder::once, DataOrder::shuffled_epochs}) {
    const BatchSource source(documents, {.sequence_length = 33, .rows_per_step = 5, .seed = 1, .order = order});
    for (int64_t step = 0; step < source.steps_per_epoch(); ++step) {
      const Batch batch = source.rows(step, 0, source.rows_in_step(step));
      EXPECT_EQ(source.totals(step).tokens, batch.num_tokens);
      EXPECT_EQ(source.totals(step).targets, batch.num_targets);
    }
  }
}

TEST(BatchSource, FillIsThePartOfRowsThatIsNoPadding) {
  const auto documents = documents_of({3, 4, 6});
  const BatchSource source(documents, {.sequence_length = 8, .rows_per_step = 1, .order = DataOrder::once});
  EXPECT_EQ(source.rows_per_epoch(), 2);
  EXPECT_DOUBLE_EQ(source.fill(), 13.0 / 16.0);
}

TEST(BatchSource, ADatasetWithoutTokensIsRefused) {
  const auto documents = documents_of({0});
  try {
    const BatchSource source(documents, {.sequence_length = 8, .rows_per_step = 1});
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the dataset has no tokens; make it from files that hold text");
  }
}

TEST(BatchSource, AMillionBatchesTakeTheMemoryOfAThousand) {
  if (!test::kMemoryIsMeasurable) GTEST_SKIP() << "memory cannot be measured under a sanitizer";
  const auto documents = many_documents();
  const auto peak = [&](int64_t steps) {
    return test::peak_memory_of([&] {
      const BatchSource source(documents, {.sequence_length = 32, .rows_per_step = 2, .seed = 1});
      for (int64_t step = 0; step < steps; ++step) ASSERT_EQ(source.rows(step, 0, 2).rows, 2);
    });
  };
  constexpr int64_t kNoise = int64_t{1} << 20;  // a byte kept of each batch would be as much
  EXPECT_LT(peak(1'000'000), peak(1'000) + kNoise);
}

}  // namespace
}  // namespace moe
