// Load statistics, the experts that took a domain, and the reports.

#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "eval/report.h"
#include "eval/routing_report.h"
#include "tests/eval/evaluation.h"

namespace moe {
namespace {

LoadStatistics load_of(const std::vector<int64_t>& counts) { return load_statistics(counts); }

TEST(LoadStatistics, OfEqualLoadAreOne) {
  const auto load = load_of({5, 5, 5, 5});
  EXPECT_DOUBLE_EQ(load.entropy, 1);
  EXPECT_DOUBLE_EQ(load.max_over_mean, 1);
  EXPECT_EQ(load.dead, 0);
  EXPECT_THAT(load.shares, testing::Each(0.25));
}

TEST(LoadStatistics, OfOneExpertTakingAll) {
  const auto load = load_of({0, 0, 7});
  EXPECT_DOUBLE_EQ(load.entropy, 0);
  EXPECT_DOUBLE_EQ(load.max_over_mean, 3);
  EXPECT_EQ(load.dead, 2);
}

TEST(LoadStatistics, OfUnequalLoad) {
  const auto load = load_of({1, 3, 0, 4});
  EXPECT_DOUBLE_EQ(load.entropy, -(std::log(0.125) / 8 + 3 * std::log(0.375) / 8 + std::log(0.5) / 2) / std::log(4.0));
  EXPECT_DOUBLE_EQ(load.max_over_mean, 2);
  EXPECT_EQ(load.dead, 1);
  EXPECT_THAT(load.shares, testing::ElementsAre(0.125, 0.375, 0, 0.5));
  const std::vector<int32_t> narrow{1, 3, 0, 4};
  EXPECT_EQ(load_statistics(narrow).shares, load.shares);
}

TEST(LoadStatistics, OfNothingAndOfOneExpert) {
  EXPECT_EQ(load_of({0, 0}).dead, 2);
  EXPECT_EQ(load_of({0, 0}).entropy, 0);
  EXPECT_EQ(load_of({9}).max_over_mean, 1);
  EXPECT_EQ(load_of({9}).entropy, 0);
}

// Two layers, three domains, four experts.
RoutingCounts example_counts() {
  return {.layers = 2, .groups = 3, .experts = 4, .counts = {10, 0, 0, 0, 0, 10, 10, 0, 0, 0, 0, 40,   // layer 0
                                                             1,  1, 1, 1, 2, 2,  2,  2, 4, 0, 0, 0}};  // layer 1
}

TEST(TopExperts, AreThoseWithTheLargestExcessOverOtherDomains) {
  const auto first = top_experts(example_counts(), 0, 2);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0].layer, 0);
  EXPECT_EQ(first[0].expert, 0);
  EXPECT_DOUBLE_EQ(first[0].share, 1);
  EXPECT_DOUBLE_EQ(first[0].others, 0);
  EXPECT_EQ(first[1].layer, 1);
  EXPECT_EQ(first[1].expert, 1);  // 0.25 against the mean of 0.25 and 0; expert 1 before its equals
  EXPECT_DOUBLE_EQ(first[1].others, 0.125);
  EXPECT_EQ(top_experts(example_counts(), 2, 100).size(), 8u);
}

TEST(TopExperts, NeedASecondDomainWithTokens) {
  RoutingCounts counts = example_counts();
  std::fill(counts.counts.begin(), counts.counts.end(), 0);
  counts.counts[0] = 5;
  EXPECT_TRUE(top_experts(counts, 0, 3).empty());
}

TEST(GroupOverlap, IsTheSumOfTheSmallerShares) {
  const RoutingCounts counts = example_counts();
  EXPECT_THAT(group_overlap(counts, 0), testing::ElementsAre(1, 0, 0, 0, 1, 0, 0, 0, 1));
  EXPECT_THAT(group_overlap(counts, 1), testing::ElementsAre(1, 1, 0.25, 1, 1, 0.25, 0.25, 0.25, 1));
  EXPECT_THAT(group_overlap(counts), testing::ElementsAre(1, 0.5, 0.125, 0.5, 1, 0.125, 0.125, 0.125, 1));
}

TEST(GroupOverlap, OfAGroupWithoutChoicesIsNone) {
  const RoutingCounts counts{.layers = 1, .groups = 2, .experts = 2, .counts = {3, 1, 0, 0}};
  EXPECT_THAT(group_overlap(counts, 0), testing::ElementsAre(1, testing::IsNan(), testing::IsNan(), testing::IsNan()));
}

TEST(RoutingReport, SharesSumToOnePerLayerAndDomain) {
  TinyRuntime tiny;
  const auto result = evaluate(tiny.runtime, mixed_documents(), {.sequence_length = 16});
  const Json json = evaluation_json(result, tiny_config());
  const Json& routing = json.at("routing");
  EXPECT_EQ(routing.at("experts"), 6);
  EXPECT_EQ(routing.at("top_k"), 2);
  ASSERT_EQ(routing.at("layers").size(), 2u);
  EXPECT_EQ(routing.at("layers")[0].at("layer"), 1);  // layer 0 is dense
  EXPECT_EQ(routing.at("layers")[1].at("layer"), 2);
  for (const Json& layer : routing.at("layers")) {
    const auto sum = [](const Json& shares) {
      const auto values = shares.get<std::vector<double>>();
      EXPECT_EQ(values.size(), 6u);
      return std::accumulate(values.begin(), values.end(), 0.0);
    };
    EXPECT_NEAR(sum(layer.at("load")), 1, 1e-12);
    for (const char* domain : {"books", "code", "zh"}) EXPECT_NEAR(sum(layer.at("domains").at(domain)), 1, 1e-12);
    EXPECT_GT(layer.at("entropy").get<double>(), 0);
    EXPECT_LE(layer.at("entropy").get<double>(), 1);
  }
  EXPECT_EQ(routing.at("top_experts").at("zh").size(), 5u);
  EXPECT_EQ(routing.at("overlap").at("domains"), (Json{"books", "code", "zh"}));
  // The overlap of two domains is what their loads have in common, by the loads of the same report.
  const char* const names[] = {"books", "code", "zh"};
  std::set<double> overlaps;
  for (const Json& layer : routing.at("layers")) {
    for (size_t a = 0; a < 3; ++a) {
      for (size_t b = 0; b < 3; ++b) {
        double common = 0;
        for (size_t e = 0; e < 6; ++e) {
          const auto share = [&](size_t d) { return layer.at("domains").at(names[d])[e].get<double>(); };
          common += std::min(share(a), share(b));
        }
        EXPECT_NEAR(layer.at("overlap")[a][b].get<double>(), common, 1e-12);
        if (a < b) overlaps.insert(common);
      }
    }
  }
  EXPECT_GE(overlaps.size(), 4u);  // they differ, so that an exchange would show
  EXPECT_LT(*overlaps.rbegin(), 1);
  for (size_t a = 0; a < 3; ++a) {
    for (size_t b = 0; b < 3; ++b) {
      double mean = 0;
      for (const Json& layer : routing.at("layers")) mean += layer.at("overlap")[a][b].get<double>() / 2;
      EXPECT_NEAR(routing.at("overlap").at("mean")[a][b].get<double>(), mean, 1e-12);
      EXPECT_EQ(routing.at("overlap").at("mean")[a][b], routing.at("overlap").at("mean")[b][a]);
    }
  }
  EXPECT_THAT(routing_text(result, tiny_config()), testing::HasSubstr("overlap of the domains' loads"));
}

TEST(ScoreReport, SaysTheSameInJsonAsTheResult) {
  TinyRuntime tiny;
  const auto result = evaluate(tiny.runtime, mixed_documents(), {.sequence_length = 16});
  const Json json = Json::parse(evaluation_json(result, tiny_config()).dump());
  EXPECT_EQ(json.at("all").at("nats").get<double>(), result.all.nats);
  EXPECT_EQ(json.at("domains").at("code").at("loss").get<double>(), result.domains[1].loss());
  EXPECT_EQ(json.at("domains").at("code").at("bits_per_byte_error").get<double>(),
            result.domains[1].bits_per_byte_error);
  EXPECT_EQ(json.at("domains").at("zh").at("tokens").get<int64_t>(), result.domains[2].tokens);
  const std::string table = score_table(result);
  EXPECT_THAT(table, testing::HasSubstr("books"));
  EXPECT_THAT(table, testing::HasSubstr(fmt::format("{:.4f} ± {:.4f}", result.all.loss(), result.all.loss_error)));
}

TEST(ScoreReport, OfOneDenseDocumentHasNeitherIntervalNorRouting) {
  ModelConfig dense = tiny_config();
  dense.n_routed_experts = 0;
  TinyRuntime tiny(1, dense);
  const auto result = evaluate(tiny.runtime, make_documents({{"only", 20}}), {.sequence_length = 16});
  const Json json = Json::parse(evaluation_json(result, dense).dump());
  EXPECT_TRUE(json.at("all").at("loss_error").is_null());
  EXPECT_TRUE(json.at("routing").is_null());
  EXPECT_EQ(routing_text(result, dense), "");
  EXPECT_THAT(score_table(result), testing::Not(testing::HasSubstr("all")));
}

}  // namespace
}  // namespace moe
