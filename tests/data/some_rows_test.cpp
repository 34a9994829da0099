// Some rows of a batch are the rows themselves, with segments numbered anew.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/batch_source.h"

namespace moe {
namespace {

using testing::ElementsAre;

TEST(SomeRows, AreTheBatchThatHasTheseRowsAlone) {
  MemoryDocuments documents;
  const int32_t a = documents.add_domain("a"), b = documents.add_domain("b");
  documents.add({1, 2, 3}, a, 3);
  documents.add({4, 5}, b, 2);
  documents.add({6, 7, 8, 9}, {0, 1, 0, 1}, b, 4);
  documents.add({10, 11, 12, 13, 14}, a, 5);
  const BatchSource together(documents, {.sequence_length = 6, .rows_per_step = 8, .order = DataOrder::once});
  const BatchSource alone(documents, {.sequence_length = 6, .rows_per_step = 1, .order = DataOrder::once});
  const Batch all = together.rows(0, 0, together.rows_in_step(0));
  ASSERT_EQ(all.rows, 3);
  for (int64_t row = 0; row < all.rows; ++row) {
    const Batch one = some_rows(all, std::vector<int64_t>{row});
    const Batch expected = alone.rows(row, 0, 1);
    EXPECT_EQ(one.rows, 1);
    EXPECT_EQ(one.sequence_length, 6);
    EXPECT_EQ(one.tokens, expected.tokens);
    EXPECT_EQ(one.targets, expected.targets);
    EXPECT_EQ(one.positions, expected.positions);
    EXPECT_EQ(one.segment_start, expected.segment_start);
    EXPECT_EQ(one.segment_id, expected.segment_id);
    EXPECT_EQ(one.segment_tokens, expected.segment_tokens);
    EXPECT_EQ(one.domain, expected.domain);
    EXPECT_EQ(one.num_tokens, expected.num_tokens);
    EXPECT_EQ(one.num_targets, expected.num_targets);
  }
  const std::vector<int64_t> every = {0, 1, 2}, outer = {0, 2};
  EXPECT_EQ(some_rows(all, every).segment_start, all.segment_start);
  EXPECT_EQ(some_rows(all, every).segment_id, all.segment_id);
  const Batch two = some_rows(all, outer);
  EXPECT_EQ(two.tokens[6], all.tokens[12]);
  EXPECT_EQ(two.segment_start[6], 6);
  EXPECT_EQ(two.num_tokens,
            some_rows(all, std::vector<int64_t>{0}).num_tokens + some_rows(all, std::vector<int64_t>{2}).num_tokens);
}

}  // namespace
}  // namespace moe
