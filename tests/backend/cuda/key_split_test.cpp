// How cached attention divides tiles of keys among blocks. Needs no GPU.

#include "backend/cuda/key_split.h"

#include <algorithm>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace moe::cuda {
namespace {

/// Walks over all heads of all jobs as the blocks do, and checks what they rely on.
void check_split(const std::vector<int64_t>& tiles_of_jobs, int heads, int blocks) {
  int64_t total = 0, longest = 0;
  for (const int64_t tiles : tiles_of_jobs) {
    total += tiles * heads;
    longest = std::max(longest, tiles);
  }
  const KeySplit split = KeySplit::of(total, longest, blocks);
  ASSERT_GE(split.per_block, 1);
  int64_t covered = 0;
  for (int block = 0; block < blocks; ++block) {
    ASSERT_EQ(split.begin(block), covered);
    covered = split.begin(block + 1);
  }
  ASSERT_EQ(covered, total);

  std::set<int64_t> places;
  std::set<int> counters;
  int64_t tile = 0;
  for (const int64_t tiles : tiles_of_jobs) {
    for (int head = 0; head < heads; ++head, tile += tiles) {
      const int first = split.first_block(tile), last = split.last_block(tile, tiles);
      ASSERT_LE(split.begin(first), tile);
      ASSERT_LT(tile, split.begin(first + 1));
      ASSERT_LT(split.begin(last), tile + tiles);
      ASSERT_GE(split.begin(last + 1), tile + tiles);
      ASSERT_LE(last - first + 1, kMostPieces);
      if (first == last) continue;
      ASSERT_LT(last, blocks);
      ASSERT_TRUE(counters.insert(first).second) << "two heads count their blocks in the same place";
      for (int block = first; block <= last; ++block) {
        const int64_t place = place_of_sums(block, first);
        ASSERT_LT(place, 2 * blocks);
        ASSERT_TRUE(places.insert(place).second) << "two heads keep sums in the same place";
      }
    }
  }
}

TEST(KeySplit, EveryTileHasABlockAndSharedHeadsHavePlacesOfTheirOwn) {
  const Random random(1, 0);
  uint64_t draw = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<int64_t> jobs(1 + random.below(draw++, 70));
    const uint64_t most = uint64_t{1} << random.below(draw++, 10);
    for (int64_t& tiles : jobs) tiles = 1 + static_cast<int64_t>(random.below(draw++, most));
    const int heads = 1 + static_cast<int>(random.below(draw++, 20)),
              blocks = 1 + static_cast<int>(random.below(draw++, 300));
    SCOPED_TRACE(testing::Message() << "round " << round);
    check_split(jobs, heads, blocks);
    if (HasFatalFailure()) return;
  }
}

TEST(KeySplit, KeepsAllBlocksBusyWhateverTheLengths) {
  // One sequence of 16384 tokens among 63 of 512, 16 heads.
  std::vector<int64_t> jobs(63, 8);
  jobs.push_back(256);
  check_split(jobs, 16, 264);
  const int64_t total = (63 * 8 + 256) * 16;
  EXPECT_EQ(KeySplit::of(total, 256, 264).per_block, (total + 263) / 264);
}

TEST(KeySplit, NoWorkIsNoWork) {
  const KeySplit split = KeySplit::of(0, 0, 8);
  for (int block = 0; block < 8; ++block) EXPECT_EQ(split.begin(block), split.begin(block + 1));
}

TEST(KeySplit, AJobsRowsFitAProduct) {
  for (int group = 1; group <= 16; ++group) {
    const int tokens = job_tokens(group);
    EXPECT_LE(tokens * group, kMostJobTokens) << group;
    EXPECT_GT(2 * tokens * group, kMostJobTokens) << group;
    EXPECT_EQ(32 % tokens, 0) << group;
  }
  EXPECT_EQ(job_tokens(40), 1);
}

}  // namespace
}  // namespace moe::cuda
