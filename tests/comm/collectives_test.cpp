// Every collective, on every kind of ranks.

#include <cstring>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "comm/one_rank.h"
#include "tests/support/ranks.h"

namespace moe {
namespace {

/// Ranks that are threads, and threads that talk as processes do.
enum class Kind { threads, sockets };

class Collectives : public testing::TestWithParam<Kind> {
 protected:
  static std::vector<std::exception_ptr> try_on_ranks(int size, const std::function<void(Communicator&)>& work) {
    return GetParam() == Kind::threads ? test::try_on_ranks(size, work) : test::try_on_sockets(size, work);
  }
  static void on_ranks(int size, const std::function<void(Communicator&)>& work) {
    test::rethrow_first(try_on_ranks(size, work));
  }
  template <class T>
  static void expect_ordered_sums(int size, int64_t count);
};

INSTANTIATE_TEST_SUITE_P(All, Collectives, testing::Values(Kind::threads, Kind::sockets),
                         [](const auto& test) { return test.param == Kind::threads ? "threads" : "sockets"; });

/// Numbers of different sizes, so that another order of a sum gives other bits.
template <class T>
std::vector<T> numbers(int rank, int64_t count) {
  const Random random(7, static_cast<uint64_t>(rank));
  std::vector<T> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(1000 * random.normal(i) * (1 + rank * rank));
  return values;
}

template <class T>
View view_of(std::vector<T>& values) {
  return {values.data(), dtype_of<T>::value, {static_cast<int64_t>(values.size())}};
}

template <class T>
void Collectives::expect_ordered_sums(int size, int64_t count) {
  std::vector<T> expected = numbers<T>(0, count);
  for (int rank = 1; rank < size; ++rank) {
    const std::vector<T> part = numbers<T>(rank, count);
    for (size_t i = 0; i < part.size(); ++i) expected[i] += part[i];
  }
  std::vector<std::vector<T>> found(static_cast<size_t>(size));
  on_ranks(size, [&](Communicator& communicator) {
    std::vector<T>& own = found[static_cast<size_t>(communicator.rank())];
    own = numbers<T>(communicator.rank(), count);
    communicator.all_reduce(view_of(own));
  });
  for (const std::vector<T>& one : found) EXPECT_EQ(one, expected) << size << " ranks, " << count << " elements";
}

TEST_P(Collectives, AddInTheOrderOfTheRanks) {
  for (const int size : {1, 2, 3, 4}) {
    for (const int64_t count : {0, 1, 3, 1000, 100000}) {
      expect_ordered_sums<float>(size, count);
      expect_ordered_sums<double>(size, count);
      expect_ordered_sums<int32_t>(size, count);
    }
  }
}

TEST_P(Collectives, AddToTheRoot) {
  for (const int size : {1, 2, 3, 4}) {
    for (const int64_t count : {0, 1, 1000, 100000}) {
      std::vector<double> expected = numbers<double>(0, count);
      for (int rank = 1; rank < size; ++rank) {
        const auto part = numbers<double>(rank, count);
        for (size_t i = 0; i < part.size(); ++i) expected[i] += part[i];
      }
      for (int root = 0; root < size; ++root) {
        on_ranks(size, [&](Communicator& communicator) {
          std::vector<double> x = numbers<double>(communicator.rank(), count);
          communicator.reduce(view_of(x), root, communicator.everyone());
          if (communicator.rank() == root) {
            EXPECT_EQ(x, expected) << size << " ranks, " << count << " elements";
          }
        });
      }
    }
  }
}

TEST_P(Collectives, BroadcastFromEveryRank) {
  for (const int root : {0, 1, 2}) {
    on_ranks(3, [&](Communicator& communicator) {
      std::vector<float> values = numbers<float>(communicator.rank(), 100);
      communicator.broadcast(view_of(values), root);
      EXPECT_EQ(values, numbers<float>(root, 100));
    });
  }
}

/// The ranks of four that follow each other, by twos, and every second one.
RankGroup neighbours(int rank) { return {.first = rank / 2 * 2, .count = 2, .step = 1}; }
RankGroup alternate(int rank) { return {.first = rank % 2, .count = 2, .step = 2}; }

TEST(RankGroups, HaveTheirRanks) {
  EXPECT_EQ(alternate(3).rank(0), 1);
  EXPECT_EQ(alternate(3).rank(1), 3);
  EXPECT_EQ(alternate(3).member(3), 1);
  EXPECT_TRUE(alternate(3).has(1));
  EXPECT_FALSE(alternate(3).has(2));
  EXPECT_FALSE(alternate(3).has(5));
  EXPECT_FALSE(neighbours(3).has(1));
}

TEST_P(Collectives, AreOfTheirGroupAlone) {
  for (const auto& group_of : {neighbours, alternate}) {
    for (const int64_t count : {1, 7, 50000}) {
      on_ranks(4, [&](Communicator& communicator) {
        const int rank = communicator.rank();
        const RankGroup group = group_of(rank);
        const auto own = numbers<float>(rank, count);
        const auto first = numbers<float>(group.rank(0), count), last = numbers<float>(group.rank(1), count);
        std::vector<float> sums = first, both = first;
        for (size_t i = 0; i < last.size(); ++i) sums[i] += last[i];
        both.insert(both.end(), last.begin(), last.end());

        std::vector<float> x = own;
        communicator.all_reduce(view_of(x), group);
        EXPECT_EQ(x, sums);
        x = own;
        communicator.reduce_aside({{view_of(x), group.rank(1), group}});
        communicator.await();
        if (rank == group.rank(1)) {
          EXPECT_EQ(x, sums);
        }
        x = own;
        communicator.broadcast_aside({{view_of(x), group.rank(1), group}});
        communicator.await();
        EXPECT_EQ(x, last);
        x = own;
        std::vector<float> gathered(both.size());
        communicator.all_gather(view_of(x), view_of(gathered), group);
        EXPECT_EQ(gathered, both);
      });
    }
  }
}

/// The members of a group call what the others do not.
TEST_P(Collectives, ArePossibleInAGroupAlone) {
  on_ranks(4, [&](Communicator& communicator) {
    const RankGroup group = neighbours(communicator.rank());
    communicator.prepare({group});
    const auto own = numbers<float>(communicator.rank(), 100);
    std::vector<float> expected = numbers<float>(group.rank(0), 100);
    const auto last = numbers<float>(group.rank(1), 100);
    for (size_t i = 0; i < last.size(); ++i) expected[i] += last[i];
    for (int round = 0; round < (group.first == 0 ? 1 : 5); ++round) {
      std::vector<float> x = own;
      communicator.all_reduce(view_of(x), group);
      EXPECT_EQ(x, expected);
    }
    std::vector<int32_t> one{1};
    communicator.all_reduce(view_of(one));
    EXPECT_EQ(one[0], 4);
  });
}

/// Between pairs of ranks, some of which send more often than others, and with collectives between them.
TEST_P(Collectives, ExchangeBetweenTwoRanks) {
  for (const int64_t count : {1, 1000, 300000}) {
    on_ranks(3, [&](Communicator& communicator) {
      const int rank = communicator.rank();
      // From rank to rank along the line, three times, and once back.
      for (int round = 0; round < 3; ++round) {
        std::vector<double> x(static_cast<size_t>(count)), own = numbers<double>(rank + 10 * round, count);
        if (rank > 0) {
          communicator.exchange({}, {{view_of(x), rank - 1}});
          EXPECT_EQ(x, numbers<double>(rank - 1 + 10 * round, count));
        }
        if (rank < 2) communicator.exchange({{view_of(own), rank + 1}}, {});
      }
      if (rank < 2) {  // the two send to each other at the same time
        std::vector<double> x(static_cast<size_t>(count)), own = numbers<double>(rank, count);
        communicator.exchange({{view_of(own), 1 - rank}}, {{view_of(x), 1 - rank}});
        EXPECT_EQ(x, numbers<double>(1 - rank, count));
      }
      EXPECT_EQ(communicator.sums({1}), std::vector<double>{3});
    });
  }
}

TEST_P(Collectives, AnExchangeEndsWhenItsPeerEnds) {
  const auto thrown = try_on_ranks(2, [](Communicator& communicator) {
    std::vector<float> x(10);
    if (communicator.rank() == 1) fail("the disk is full");
    communicator.exchange({}, {{view_of(x), 1}});
  });
  ASSERT_TRUE(thrown[0]);
  EXPECT_THROW(std::rethrow_exception(thrown[0]), RankLost);
}

TEST_P(Collectives, ScatterSumsInTheOrderOfTheRanks) {
  for (const int size : {1, 2, 4}) {
    for (const int64_t count : {0, 1, 9000}) {
      on_ranks(size, [&](Communicator& communicator) {
        std::vector<double> x = numbers<double>(communicator.rank(), count * size);
        std::vector<double> y(static_cast<size_t>(count)), expected(y.size());
        for (int rank = 0; rank < size; ++rank) {
          const auto part = numbers<double>(rank, count * size);
          for (size_t i = 0; i < y.size(); ++i) {
            expected[i] += part[static_cast<size_t>(communicator.rank() * count) + i];
          }
        }
        communicator.reduce_scatter(view_of(x), view_of(y), communicator.everyone());
        EXPECT_EQ(y, expected);
      });
    }
  }
}

TEST_P(Collectives, AddBf16InF32AndRoundOnce) {
  on_ranks(3, [](Communicator& communicator) {
    // 256 + 1 is 256 in bf16, so that a sum that rounds twice loses both ones.
    std::vector<bf16> x{to_bf16(communicator.rank() == 0 ? 256.0f : 1.0f)};
    communicator.all_reduce(view_of(x));
    EXPECT_EQ(to_float(x[0]), 258.0f);
  });
}

TEST_P(Collectives, GatherBytesOfAnyLength) {
  on_ranks(3, [](Communicator& communicator) {
    for (int round = 0; round < 3; ++round) {
      const std::string own(static_cast<size_t>(communicator.rank() * 1000 * round), static_cast<char>('a' + round));
      const std::vector<std::string> all = communicator.gather(own);
      ASSERT_EQ(all.size(), 3u);
      for (size_t rank = 0; rank < 3; ++rank) EXPECT_EQ(all[rank].size(), rank * 1000 * static_cast<size_t>(round));
      EXPECT_EQ(all[static_cast<size_t>(communicator.rank())], own);
    }
    EXPECT_EQ(communicator.sums({1, 0.5 * communicator.rank()}), (std::vector<double>{3, 1.5}));
  });
}

TEST_P(Collectives, EndWhenARankEnds) {
  const auto thrown = try_on_ranks(3, [](Communicator& communicator) {
    communicator.gather("");
    if (communicator.rank() == 1) {
      communicator.set_step(3);  // the others have not come so far, and name the step of this rank
      fail("the disk is full");
    }
    communicator.gather("");
  });
  for (const size_t rank : {0, 2}) {
    ASSERT_TRUE(thrown[rank]);
    try {
      std::rethrow_exception(thrown[rank]);
    } catch (const RankLost& error) {
      EXPECT_EQ(error.rank, 1);
      EXPECT_THAT(error.what(), testing::StartsWith("rank 1"));
      EXPECT_THAT(error.what(), testing::EndsWith(" ended in step 3: the disk is full"));
    }
  }
}

TEST_P(Collectives, RefuseASumOfAnotherType) {
  on_ranks(2, [](Communicator& communicator) {
    std::vector<uint8_t> values(4);
    EXPECT_THROW(communicator.all_reduce(view_of(values)), Error);
    communicator.gather("");  // every rank has seen it
  });
}

TEST(OneRank, ChangesNothing) {
  std::vector<float> values = numbers<float>(3, 10);
  one_rank().all_reduce(view_of(values));
  one_rank().broadcast(view_of(values), 0);
  EXPECT_EQ(values, numbers<float>(3, 10));
  EXPECT_EQ(one_rank().gather("mine"), std::vector<std::string>{"mine"});
  EXPECT_EQ(one_rank().sums({2, 3}), (std::vector<double>{2, 3}));
}

}  // namespace
}  // namespace moe
