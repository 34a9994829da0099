#include "data/packing.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "data/order.h"

namespace moe {
namespace {

using testing::ElementsAre;

MemoryDocuments documents_of(const std::vector<int>& lengths) {
  MemoryDocuments documents;
  documents.add_domain("d");
  for (const int length : lengths) documents.add(std::vector<int32_t>(static_cast<size_t>(length), 1), 0, length);
  return documents;
}

std::vector<int64_t> in_order(const Documents& documents) {
  std::vector<int64_t> order(static_cast<size_t>(documents.count()));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

std::vector<int> random_lengths(uint32_t seed, int count, int longest) {
  std::mt19937 generator(seed);
  std::vector<int> lengths(static_cast<size_t>(count));
  for (int& length : lengths) length = static_cast<int>(generator() % static_cast<uint32_t>(longest + 1));
  return lengths;
}

std::vector<std::vector<Piece>> rows_of(const PackedRows& packed) {
  std::vector<std::vector<Piece>> rows;
  for (int64_t i = 0; i < packed.count(); ++i) rows.emplace_back(packed.row(i).begin(), packed.row(i).end());
  return rows;
}

TEST(Pack, PutsDocumentsWholeIntoTheFirstRowWithRoom) {
  const auto documents = documents_of({6, 5, 3, 4, 1});
  EXPECT_THAT(rows_of(pack(documents, in_order(documents), 10)),
              ElementsAre(ElementsAre(Piece{0, 0, 6}, Piece{2, 0, 3}, Piece{4, 0, 1}),
                          ElementsAre(Piece{1, 0, 5}, Piece{3, 0, 4})));
}

TEST(Pack, CutsOnlyDocumentsLongerThanARow) {
  const auto documents = documents_of({4, 25, 10, 6});
  EXPECT_THAT(rows_of(pack(documents, in_order(documents), 10)),
              ElementsAre(ElementsAre(Piece{1, 0, 10}), ElementsAre(Piece{1, 10, 10}), ElementsAre(Piece{2, 0, 10}),
                          ElementsAre(Piece{0, 0, 4}, Piece{1, 20, 5}), ElementsAre(Piece{3, 0, 6})));
}

TEST(Pack, ClosesTheFullestRowWhenTooManyAreOpen) {
  const auto documents = documents_of({6, 8, 7, 2, 4});
  EXPECT_THAT(rows_of(pack(documents, in_order(documents), 10, 2)),
              ElementsAre(ElementsAre(Piece{1, 0, 8}), ElementsAre(Piece{0, 0, 6}, Piece{3, 0, 2}),
                          ElementsAre(Piece{2, 0, 7}), ElementsAre(Piece{4, 0, 4})));
}

TEST(Pack, EmptyDocumentsTakeNoRow) {
  const auto documents = documents_of({0, 0});
  EXPECT_EQ(pack(documents, in_order(documents), 10).count(), 0);
}

// Every token exactly once, pieces in one row only, whole documents uncut, rows never overfull: for many shapes.
TEST(Pack, LosesAndRepeatsNothing) {
  for (const int sequence_length : {1, 2, 7, 64}) {
    for (const int longest : {1, 6, 63, 64, 65, 300}) {
      for (const int64_t open_rows : {1, 3, 256}) {
        const auto documents = documents_of(random_lengths(7, 200, longest));
        const PackedRows packed = pack(documents, shuffled(documents.count(), 3, 4), sequence_length, open_rows);
        std::vector<std::vector<int>> seen;
        for (int64_t i = 0; i < documents.count(); ++i) seen.emplace_back(documents.length(i), 0);
        int64_t tokens = 0;
        for (int64_t row = 0; row < packed.count(); ++row) {
          int64_t used = 0;
          for (const Piece& piece : packed.row(row)) {
            ASSERT_GT(piece.length, 0);
            used += piece.length;
            const int64_t length = documents.length(piece.document);
            if (length <= sequence_length) {
              ASSERT_EQ(piece.length, length) << "a document that fits was cut";
            }
            for (int32_t t = 0; t < piece.length; ++t) ++seen[piece.document].at(piece.begin + t);
          }
          ASSERT_GT(used, 0);
          ASSERT_LE(used, sequence_length);
          tokens += used;
        }
        for (const auto& document : seen) ASSERT_THAT(document, testing::Each(1));
        ASSERT_EQ(packed.tokens, tokens);
      }
    }
  }
}

TEST(Pack, RowsOfManyDocumentsAreNearlyFull) {
  const auto documents = documents_of(random_lengths(9, 5000, 600));
  const PackedRows packed = pack(documents, in_order(documents), 1024);
  EXPECT_GT(static_cast<double>(packed.tokens) / static_cast<double>(packed.count() * 1024), 0.98);
}

TEST(Shuffled, IsAPermutationThatDependsOnSeedAndStreamAlone) {
  for (const int64_t count : {0, 1, 2, 1000}) {
    auto order = shuffled(count, 5, 6);
    EXPECT_EQ(order, shuffled(count, 5, 6));
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(order[static_cast<size_t>(i)], i);
  }
  EXPECT_NE(shuffled(1000, 5, 6), shuffled(1000, 5, 7));
  EXPECT_NE(shuffled(1000, 5, 6), shuffled(1000, 6, 6));
}

TEST(Shuffled, EveryOrderIsAboutEquallyLikely) {
  std::map<std::vector<int64_t>, int> counts;
  for (uint64_t seed = 0; seed < 24000; ++seed) ++counts[shuffled(4, seed, 1)];
  ASSERT_EQ(counts.size(), 24u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000.0));
}

TEST(PackPairs, KeepsBothDocumentsOfAPairInOneRowSideBySide) {
  std::vector<int> lengths = random_lengths(3, 200, 14);
  for (int& length : lengths) length += 1;
  const MemoryDocuments documents = documents_of(lengths);
  const std::vector<int64_t> order = shuffled(100, 5, 1);
  const PackedRows packed = pack_pairs(documents, order, 32);
  std::vector<int> seen(200, 0);
  int64_t tokens = 0;
  for (int64_t row = 0; row < packed.count(); ++row) {
    const auto pieces = packed.row(row);
    ASSERT_EQ(pieces.size() % 2, 0u);
    int64_t used = 0;
    for (size_t i = 0; i < pieces.size(); i += 2) {
      EXPECT_EQ(pieces[i].document % 2, 0);
      EXPECT_EQ(pieces[i + 1].document, pieces[i].document + 1);
    }
    for (const Piece& piece : pieces) {
      ++seen[static_cast<size_t>(piece.document)];
      EXPECT_EQ(piece.begin, 0);
      EXPECT_EQ(piece.length, lengths[static_cast<size_t>(piece.document)]);
      used += piece.length;
    }
    EXPECT_LE(used, 32);
    tokens += used;
  }
  EXPECT_EQ(seen, std::vector<int>(200, 1));
  EXPECT_EQ(packed.tokens, tokens);
}

TEST(PackPairs, APairThatIsLongerThanARowIsRefused) {
  const MemoryDocuments documents = documents_of({3, 4, 9, 8});
  EXPECT_EQ(pack_pairs(documents, std::vector<int64_t>{0}, 7).count(), 1);
  try {
    pack_pairs(documents, std::vector<int64_t>{0, 1}, 16);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("pair 1 has 17 tokens in its two conversations, but a row has 16"));
  }
}

TEST(EveryNth, TakesWholeBlocks) {
  const MemoryDocuments documents = documents_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  const EveryNth pairs(documents, 2, 2);
  EXPECT_EQ(pairs.count(), 6);
  std::vector<int64_t> lengths;
  for (int64_t d = 0; d < pairs.count(); ++d) lengths.push_back(pairs.length(d));
  EXPECT_THAT(lengths, ElementsAre(1, 2, 5, 6, 9, 10));
  EXPECT_EQ(EveryNth(documents, 3).count(), 4);
}

}  // namespace
}  // namespace moe
