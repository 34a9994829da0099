#include "data/mixture.h"

#include <cmath>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/batch_source.h"
#include "data/joined_documents.h"

namespace moe {
namespace {

using testing::ElementsAre;

TEST(Mixture, EveryRowHasOnePlaceAndThePartsAreCountedWithoutGaps) {
  for (const std::vector<double>& weights :
       {std::vector{1.0}, {0.7, 0.3}, {3.0, 1.0, 1.0}, {1e-6, 1.0}, {1.0, 1e-6}, {0.2, 0.2, 0.2, 0.2, 0.2}}) {
    const Mixture mixture(weights);
    std::vector<int64_t> next(weights.size(), 0);
    for (int64_t row = 0; row < 5000; ++row) {
      const auto place = mixture.place_of(row);
      ASSERT_EQ(place.row, next[place.part]++) << row;
      for (size_t part = 0; part < weights.size(); ++part) ASSERT_EQ(mixture.rows_of(part, row + 1), next[part]);
    }
  }
}

TEST(Mixture, SharesFollowTheWeightsAtEveryLength) {
  const std::vector<double> weights = {5, 2, 2, 1};
  const Mixture mixture(weights);
  for (const int64_t rows : {int64_t{7}, int64_t{100}, int64_t{123456}, int64_t{1} << 45}) {
    int64_t all = 0;
    for (size_t part = 0; part < weights.size(); ++part) {
      const auto expected = static_cast<double>(rows) * weights[part] / 10;
      // 2^-32 of the rows by the shares' rounding, and one row for each split.
      EXPECT_NEAR(static_cast<double>(mixture.rows_of(part, rows)), expected,
                  4 + 4 * static_cast<double>(rows) * 0x1p-32);
      all += mixture.rows_of(part, rows);
    }
    EXPECT_EQ(all, rows);
  }
}

MemoryDocuments documents_of(const char* domain, int count, int32_t first_token) {
  MemoryDocuments documents;
  documents.add_domain("common");
  documents.add_domain(domain);
  for (int i = 0; i < count; ++i) {
    documents.add(std::vector<int32_t>(static_cast<size_t>(3 + i % 5), first_token + i), i % 2, 10 + i);
  }
  return documents;
}

TEST(JoinedDocuments, AreThePartsOneAfterTheOther) {
  const auto a = documents_of("a", 5, 100), b = documents_of("b", 3, 200);
  const JoinedDocuments joined({&a, &b});
  EXPECT_EQ(joined.count(), 8);
  EXPECT_EQ(joined.first_of(1), 5);
  EXPECT_THAT(joined.domain_names(), ElementsAre("common", "a", "b"));
  for (int64_t d = 0; d < 8; ++d) {
    const Documents& part = d < 5 ? a : b;
    const int64_t own = d < 5 ? d : d - 5;
    ASSERT_EQ(joined.length(d), part.length(own));
    EXPECT_EQ(joined.text_bytes(d), part.text_bytes(own));
    EXPECT_EQ(joined.domain_names()[static_cast<size_t>(joined.domain(d))],
              part.domain_names()[static_cast<size_t>(part.domain(own))]);
    std::vector<int32_t> tokens(static_cast<size_t>(joined.length(d)));
    joined.copy_tokens(d, 0, joined.length(d), tokens.data());
    EXPECT_EQ(tokens.front(), d < 5 ? 100 + d : 200 + d - 5);
  }
}

// Two parts of a run: 60 % of the rows of the first, 40 % of the second.
struct Mixed {
  MemoryDocuments a = documents_of("a", 60, 1000), b = documents_of("b", 20, 2000);
  JoinedDocuments joined{{&a, &b}};
  BatchSource source{joined,
                     {.sequence_length = 16,
                      .rows_per_step = 5,
                      .seed = 3,
                      .parts = {{.documents = 60, .weight = 0.6}, {.documents = 20, .weight = 0.4}}}};
};

TEST(MixedBatches, EachPartKeepsItsShareAndItsOwnEpochs) {
  const Mixed mixed;
  std::vector<std::vector<int64_t>> seen(2, std::vector<int64_t>(4000));
  const int64_t steps = 60;
  int64_t rows_of_a = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const Batch batch = mixed.source.rows(step, 0, 5);
    for (int64_t row = 0; row < 5; ++row) {
      const bool is_a = batch.tokens[static_cast<size_t>(row * 16)] < 2000;
      rows_of_a += is_a ? 1 : 0;
      for (int64_t t = row * 16; t < (row + 1) * 16; ++t) {
        const auto i = static_cast<size_t>(t);
        if (batch.segment_id[i] < 0) continue;
        ASSERT_EQ(batch.tokens[i] < 2000, is_a) << "a row holds documents of one part";
        ++seen[is_a ? 0 : 1][static_cast<size_t>(batch.tokens[i])];
      }
    }
  }
  EXPECT_EQ(rows_of_a, 5 * steps * 6 / 10);
  for (const size_t part : {size_t{0}, size_t{1}}) {
    const double epochs = mixed.source.epochs(part, steps);
    EXPECT_GT(epochs, 1);
    const Documents& documents = part == 0 ? mixed.a : mixed.b;
    for (int64_t d = 0; d < documents.count(); ++d) {
      const auto times = static_cast<double>(seen[part][static_cast<size_t>((part == 0 ? 1000 : 2000) + d)]) /
                         static_cast<double>(documents.length(d));
      EXPECT_TRUE(times == std::floor(epochs) || times == std::ceil(epochs)) << times << " of " << epochs;
    }
  }
}

TEST(MixedBatches, OnePartIsTheSourceWithoutParts) {
  const auto a = documents_of("a", 60, 1000);
  const BatchSource plain(a, {.sequence_length = 16, .rows_per_step = 5, .seed = 3});
  const BatchSource part(a, {.sequence_length = 16, .rows_per_step = 5, .seed = 3, .parts = {{60, 0.25}}});
  for (const int64_t step : {0, 7, 30}) EXPECT_EQ(plain.rows(step, 0, 5).tokens, part.rows(step, 0, 5).tokens);
}

TEST(MixedBatches, StepsAskedForByThreadsInAnyOrderAreThoseOfOne) {
  const Mixed mixed, again;
  constexpr int64_t kSteps = 40;
  std::vector<Batch> found(kSteps);
  std::vector<std::thread> threads;
  for (int64_t worker = 0; worker < 4; ++worker) {
    threads.emplace_back([&, worker] {
      for (int64_t i = 0; i < kSteps; ++i) {
        const int64_t step = (i * 7 + worker * 13) % kSteps;
        if (step % 4 == worker) found[static_cast<size_t>(step)] = mixed.source.rows(step, 0, 5);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int64_t step = 0; step < kSteps; ++step) {
    const Batch expected = again.source.rows(step, 0, 5);
    EXPECT_EQ(found[static_cast<size_t>(step)].tokens, expected.tokens) << step;
    EXPECT_EQ(found[static_cast<size_t>(step)].targets, expected.targets) << step;
  }
}

}  // namespace
}  // namespace moe
