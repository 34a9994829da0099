// Layouts: which divide a model, and which rank has what.

#include "model/layout.h"

#include <set>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/presets.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

TEST(Layouts, HaveAText) {
  EXPECT_EQ(parse_layout("dp=2,ep=4,pp=8"), (Layout{2, 4, 8}));
  EXPECT_EQ(parse_layout("pp=3"), (Layout{1, 1, 3}));
  EXPECT_EQ(parse_layout("ep=1048576").expert, 1048576);
  const Layout layout{6, 1, 2};
  EXPECT_EQ(parse_layout(text_of(layout)), layout);
  EXPECT_EQ(layout.ranks(), 12);
  EXPECT_EQ(layout.stage_ranks(), 6);
}

TEST(Layouts, OfOtherTextAreRefused) {
  for (const char* text : {"", "dp", "dp=", "dp=0", "dp=-1", "dp=2.5", "dp=2,", ",dp=2", "tp=2", "dp=1048577", "dp=2 ",
                           "dp=2;ep=2", "dp=99999999999999999999", "dp==2"}) {
    EXPECT_THAT(error_of<UsageError>([&] { parse_layout(text); }), HasSubstr("such as dp=2,ep=4,pp=1")) << text;
  }
  EXPECT_THAT(error_of<UsageError>([] { parse_layout("dp=2,dp=2"); }), HasSubstr("expected dp once"));
}

TEST(Layouts, ThatDoNotDivideAModelAreRefused) {
  const ModelConfig config = tiny_config();  // 3 layers, 6 experts
  const auto refusal = [&](const Layout& layout, int64_t ranks) {
    return error_of<UsageError>([&] { check_layout(config, layout, ranks); });
  };
  EXPECT_THAT(refusal({2, 2, 1}, 8), HasSubstr("dp=2,ep=2,pp=1 is of 4 ranks, expected 8"));
  EXPECT_THAT(refusal({1, 4, 1}, 4), HasSubstr("expected a divisor of the 6 routed experts"));
  EXPECT_THAT(refusal({1, 12, 1}, 12), HasSubstr("expected a divisor of the 6 routed experts"));
  EXPECT_THAT(refusal({1, 1, 4}, 4), HasSubstr("expected at most 3 layers"));
  EXPECT_NO_THROW(check_layout(config, {1, 6, 3}, 18));
  ModelConfig dense = config;
  dense.n_routed_experts = 0;
  EXPECT_THAT(error_of<UsageError>([&] { check_layout(dense, {1, 2, 1}, 2); }), HasSubstr("no routed experts"));
  EXPECT_NO_THROW(check_layout(dense, {2, 1, 3}, 6));
  ModelConfig tied = config;
  tied.tie_word_embeddings = true;
  EXPECT_NO_THROW(check_layout(tied, {1, 1, 2}, 2));
}

TEST(Layouts, DivideTheLayersAmongStages) {
  for (const int64_t layers : {1, 3, 28, 62}) {
    for (int64_t stages = 1; stages <= layers; ++stages) {
      const std::vector<LayerRange> ranges = stage_layers(layers, stages);
      ASSERT_EQ(ranges.size(), static_cast<size_t>(stages));
      int64_t next = 0;
      for (size_t i = 0; i < ranges.size(); ++i) {
        EXPECT_EQ(ranges[i].begin, next);
        next = ranges[i].end;
        const int64_t count = next - ranges[i].begin;
        EXPECT_GE(count, layers / stages);
        EXPECT_LE(count, ranges[0].end) << "later stages are not larger";
      }
      EXPECT_EQ(next, layers);
    }
  }
}

TEST(Layouts, GiveEachRankAPlaceOfItsOwn) {
  const Layout layout{3, 4, 2};
  std::set<std::tuple<int64_t, int64_t, int64_t>> places;
  for (int64_t rank = 0; rank < layout.ranks(); ++rank) {
    const LayoutPosition at = position_of(layout, rank);
    EXPECT_EQ((at.stage * 3 + at.data) * 4 + at.expert, rank);
    EXPECT_LT(at.expert, 4);
    EXPECT_LT(at.data, 3);
    EXPECT_LT(at.stage, 2);
    places.insert({at.stage, at.data, at.expert});
  }
  EXPECT_EQ(places.size(), 24u);
}

TEST(Layouts, AreListedOnceEach) {
  const ModelConfig& config = find_preset("deepseekmoe-16b").config;  // 28 layers, 64 experts
  const std::vector<Layout> all = layouts_of(config, 8, 8);
  EXPECT_EQ(all.size(), 10u);  // 8 = 2^3 as three factors
  for (const Layout& layout : all) EXPECT_NO_THROW(check_layout(config, layout, 8));
  EXPECT_EQ(layouts_of(config, 8, 2).size(), 7u);
  EXPECT_EQ(layouts_of(config, 1, 8), std::vector<Layout>{Layout{}});
  EXPECT_EQ(layouts_of(config, 31, 8), std::vector<Layout>{(Layout{31, 1, 1})});  // 31 stages need 31 layers
}

}  // namespace
}  // namespace moe
