// Which tiles Hopper's grouped products get; needs no GPU.

#include <gtest/gtest.h>

#include "backend/cuda/hopper_tiles.h"

namespace moe::cuda::hopper {
namespace {

constexpr int kProcessors = 132;

TEST(TileChoice, WastesNothingOnTheWidthsOfDeepSeekMoE) {
  // 64K tokens of the 2B shape: 63 experts, 7 of which each token takes; 32K of the 16B shape.
  const auto rows = [](int64_t count, int64_t columns) {
    return choose_tiles({.reduction = false, .gathered = false, .experts = 63, .rows = count, .columns = columns},
                        kProcessors);
  };
  for (const int64_t width : {1728, 864}) EXPECT_EQ(rows(458752, width), (TileChoice{216, 2})) << width;
  EXPECT_EQ(rows(458752, 1280), (TileChoice{256, 2}));
  EXPECT_EQ(rows(196608, 1408), (TileChoice{176, 2}));
  EXPECT_EQ(rows(196608, 2816), (TileChoice{256, 2}));
  EXPECT_EQ(rows(196608, 2048), (TileChoice{256, 2}));
  const auto reduction = [](int64_t height, int64_t columns) {
    return choose_tiles({.reduction = true, .gathered = false, .experts = 63, .rows = height, .columns = columns},
                        kProcessors);
  };
  for (const int64_t width : {1728, 864}) EXPECT_EQ(reduction(1280, width), (TileChoice{216, 2})) << width;
  EXPECT_EQ(reduction(2048, 1408), (TileChoice{176, 2}));
}

TEST(TileChoice, IsWideWhereRowsAreGathered) {
  for (const int64_t columns : {864, 1408, 1728}) {
    const TileDemand demand{.reduction = false, .gathered = true, .experts = 63, .rows = 458752, .columns = columns};
    EXPECT_EQ(choose_tiles(demand, kProcessors).columns, 256) << columns;
  }
}

TEST(TileChoice, PairsOnlyWhereNoHalfOfThemIsEmpty) {
  const auto pair = [](int64_t experts, int64_t rows) {
    return choose_tiles({.reduction = false, .gathered = true, .experts = experts, .rows = rows, .columns = 1024},
                        kProcessors)
        .pair;
  };
  EXPECT_EQ(pair(64, 64 * 1024), 2);
  EXPECT_EQ(pair(64, 64 * 1023), 1);
  EXPECT_EQ(pair(64, 128), 1);
  const auto of_height = [](int64_t rows) {
    return choose_tiles({.reduction = true, .gathered = true, .experts = 8, .rows = rows, .columns = 1024}, kProcessors)
        .pair;
  };
  EXPECT_EQ(of_height(1280), 2);
  EXPECT_EQ(of_height(1408), 1);  // eleven tiles
  EXPECT_EQ(
      choose_tiles({.reduction = false, .gathered = false, .experts = 1, .rows = 100000, .columns = 1024}, 1).pair, 1);
}

TEST(TileChoice, NarrowTilesGiveMoreProcessorsWorkWhereThereAreFew) {
  EXPECT_EQ(choose_tiles({.reduction = false, .gathered = true, .experts = 6, .rows = 6, .columns = 2816}, kProcessors)
                .columns,
            128);
}

TEST(TileChoice, AlwaysHasAWidthAndRowTilesThatSuffice) {
  for (const int64_t experts : {1, 7, 300}) {
    for (const int64_t rows : {1, 127, 128, 129, 5000, 400000}) {
      for (const int64_t columns : {8, 216, 217, 5000}) {
        for (const bool reduction : {false, true}) {
          const TileDemand demand{.reduction = reduction,
                                  .gathered = columns == 5000,
                                  .experts = experts,
                                  .rows = rows,
                                  .columns = columns};
          const TileChoice choice = choose_tiles(demand, kProcessors);
          EXPECT_NE(std::find(std::begin(kWidths), std::end(kWidths), choice.columns), std::end(kWidths));
          // Rows may be dealt to experts in any way: each one's last tile may hold a single row.
          const int64_t height = int64_t{kTileRows} * choice.pair;
          const int64_t most = reduction ? experts * ((rows + height - 1) / height)
                                         : std::min(experts, rows) + (rows - std::min(experts, rows)) / height;
          EXPECT_GE(row_tiles(demand, choice.pair), most);
        }
      }
    }
  }
}

TEST(TileChoice, RowsAreGatheredWhereExpertsHaveMany) {
  EXPECT_TRUE(worth_gathering(65536 * 7, 63));
  EXPECT_TRUE(worth_gathering(512, 1));
  EXPECT_FALSE(worth_gathering(2048 * 6, 64));
  EXPECT_FALSE(worth_gathering(0, 0));
}

}  // namespace
}  // namespace moe::cuda::hopper
